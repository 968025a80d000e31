//! Text that must never be shown: passwords, credentials, keys, tokens on their way in.
//!
//! The type has no `Display` and no `Serialize`, its `Debug` prints `[secret]`, and its memory is cleared when it is
//! dropped. Whoever needs the text says [`Sensitive::expose`], so that one search finds every such place.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Secret text. Compare digests, not these: there is no `PartialEq`.
#[derive(Clone)]
pub struct Sensitive(Zeroizing<String>);

impl Sensitive {
    /// Takes the text over; the caller keeps no copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Never log it, never put it into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The last four characters, for lists ("which of my keys is this?"); empty when that would show too much, that
    /// is below twelve characters.
    pub fn last4(&self) -> &str {
        if self.0.chars().count() < 12 {
            return "";
        }
        self.0.char_indices().rev().nth(3).map_or("", |(start, _)| &self.0[start..])
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_text() {
        let secret = Sensitive::new("sk-canary-0123456789".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    [secret],\n)");
    }

    #[test]
    fn only_long_texts_have_a_visible_end() {
        assert_eq!(Sensitive::new("sk-canary-0123456789".to_owned()).last4(), "6789");
        assert_eq!(Sensitive::new("hunter2".to_owned()).last4(), "");
        assert_eq!(Sensitive::new("ключ-ключ-ключ".to_owned()).last4(), "ключ");
    }
}
