//! A vendor credential in memory. It cannot be printed, and its bytes are wiped with the last runtime that holds it.

use std::fmt;

use zeroize::Zeroizing;

/// The value and its version.
pub struct Secret {
    value: Zeroizing<Vec<u8>>,
    /// Raised by every new value; part of the connection pool's key.
    pub version: u32,
}

impl Secret {
    /// The bytes, for the one place that builds the credential header.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

mod wire {
    use prost::Message as _;

    use super::{Secret, Zeroizing};
    use crate::runtime::invalid::{Code, Invalid};

    impl TryFrom<&[u8]> for Secret {
        type Error = Invalid;

        fn try_from(body: &[u8]) -> Result<Self, Invalid> {
            let proto::config::Secret { value, version } = proto::config::Secret::decode(body)
                .map_err(|_| Invalid::new("", Code::Undecodable, "the secret cannot be decoded"))?;
            if value.is_empty() {
                return Err(Invalid::new("/value", Code::Missing, "the secret is empty"));
            }
            // It ends up in a header: what a header cannot carry would fail every request later.
            if value.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
                return Err(Invalid::new("/value", Code::Malformed, "the secret holds a control character"));
            }
            Ok(Self { value: Zeroizing::new(value.to_vec()), version })
        }
    }
}
