//! Random bytes and tokens from the operating system's generator. Nothing else makes secrets.

use proto::token::{self, TokenKind};

use crate::sensitive::Sensitive;

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // No entropy at all is a broken machine; going on would mean guessable secrets.
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A new token of this kind; `ca` is the fingerprint that gateway tokens carry.
pub fn token(kind: TokenKind, ca: Option<&str>) -> Sensitive {
    loop {
        // One draw of 128 bytes has fewer than 44 usable ones with a probability below 10^-80.
        if let Some(text) = token::mint(kind, ca, &bytes()) {
            return Sensitive::new(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_are_well_formed() {
        let one = token(TokenKind::PersonalAccess, None);
        let other = token(TokenKind::PersonalAccess, None);
        assert_ne!(one.expose(), other.expose());
        assert!(token::parse(TokenKind::PersonalAccess, one.expose()).is_ok());
    }
}
