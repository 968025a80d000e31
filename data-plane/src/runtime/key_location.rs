//! Where a gateway key may travel in a request.

use http::HeaderName;

/// One place; an endpoint has an ordered list of them, and the first that carries a value decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyLocation {
    /// A header, its value beginning with `prefix` (compared without case; may be empty).
    Header {
        /// Lower case by construction.
        name: HeaderName,
        /// E.g. `Bearer `.
        prefix: Box<str>,
    },
    /// A query parameter.
    Query {
        /// As written.
        name: Box<str>,
        /// As for headers.
        prefix: Box<str>,
    },
}

mod wire {
    use http::HeaderName;
    use proto::config::key_location::In;

    use super::KeyLocation;
    use crate::runtime::invalid::{Code, Invalid};

    impl KeyLocation {
        /// Reads the location at `index` of an endpoint's list.
        pub(in crate::runtime) fn from_wire(
            location: proto::config::KeyLocation,
            index: usize,
        ) -> Result<Self, Invalid> {
            let place = |field: &str| format!("/security/apiKey/locations/{index}/{field}");
            let proto::config::KeyLocation { r#in, name, prefix } = location;
            let prefix: Box<str> = prefix.into();
            match In::try_from(r#in) {
                Ok(In::Header) => {
                    let name = HeaderName::from_bytes(name.as_bytes())
                        .map_err(|_| Invalid::new(place("name"), Code::Malformed, "not a header name"))?;
                    if is_framing(&name) {
                        return Err(Invalid::new(place("name"), Code::Malformed, "this header frames the message"));
                    }
                    Ok(Self::Header { name, prefix })
                }
                Ok(In::Query) if name.is_empty() => {
                    Err(Invalid::new(place("name"), Code::Missing, "the parameter has no name"))
                }
                Ok(In::Query) => Ok(Self::Query { name: name.into(), prefix }),
                Ok(In::Unspecified) | Err(_) => {
                    Err(Invalid::new(place("in"), Code::Unsupported, "neither header nor query"))
                }
            }
        }
    }

    /// A key cannot travel in what frames or routes the message.
    fn is_framing(name: &HeaderName) -> bool {
        ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"]
            .contains(&name.as_str())
    }
}
