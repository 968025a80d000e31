//! The format of keys and tokens: `lgk_<id12>_<secret32><crc6>`, base62.
//!
//! The public id finds the row and may be shown; the secret carries 190 bits; the checksum catches typing errors
//! before any lookup and spares secret scanners false hits. A gateway token has one part more, the fingerprint of the
//! control plane's certificate authority: `lge_<id12>_<secret32>_<ca>_<crc6>`.
//!
//! What is stored and distributed is [`digest`], the SHA-256 of the whole text. At 190 random bits a slow hash adds
//! nothing but time.

use sha2::{Digest as _, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID: usize = 12;
const SECRET: usize = 32;
const CRC: usize = 6;
/// Random bytes that [`mint`] consumes at most.
pub const ENTROPY: usize = 128;

/// What a token opens; the first four characters of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `lgk_`: an API key.
    ApiKey,
    /// `lgt_`: a personal access token.
    PersonalAccess,
    /// `lge_`: a gateway token.
    Gateway,
    /// `lgb_`: the first owner's bootstrap token.
    Bootstrap,
}

impl TokenKind {
    /// With the underscore.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "lgk_",
            Self::PersonalAccess => "lgt_",
            Self::Gateway => "lge_",
            Self::Bootstrap => "lgb_",
        }
    }
}

/// Why a text is no token. Never says which character was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Another prefix, another length, another alphabet.
    Shape,
    /// Everything is in place but the checksum: a typing error.
    Checksum,
}

/// Makes a token from random bytes; every byte below 248 gives one character, so the letters are evenly spread.
/// `ca` is for gateway tokens only. Returns `None` if `entropy` is too poor in usable bytes (draw again).
pub fn mint(kind: TokenKind, ca: Option<&str>, entropy: &[u8; ENTROPY]) -> Option<String> {
    let mut letters =
        entropy.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
    let mut text = String::with_capacity(96);
    text.push_str(kind.prefix());
    for _ in 0..ID {
        text.push(letters.next()?);
    }
    text.push('_');
    for _ in 0..SECRET {
        text.push(letters.next()?);
    }
    if let Some(ca) = ca {
        text.push('_');
        text.push_str(ca);
        text.push('_');
    }
    let sum = checksum(&text);
    text.extend(sum.iter().map(|byte| char::from(*byte)));
    Some(text)
}

/// Checks the form without any lookup; on success the public id.
pub fn parse(kind: TokenKind, text: &str) -> Result<&str, Malformed> {
    let body = text.strip_prefix(kind.prefix()).ok_or(Malformed::Shape)?;
    let bytes = body.as_bytes();
    let fixed = ID + 1 + SECRET + CRC;
    let length_fits = match kind {
        TokenKind::Gateway => bytes.len() > fixed + 2,
        TokenKind::ApiKey | TokenKind::PersonalAccess | TokenKind::Bootstrap => bytes.len() == fixed,
    };
    let letters = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if !length_fits || !letters || bytes[ID] != b'_' || bytes[..ID].contains(&b'_') {
        return Err(Malformed::Shape);
    }
    let (covered, sum) = text.split_at(text.len() - CRC);
    if checksum(covered) == sum.as_bytes() { Ok(&body[..ID]) } else { Err(Malformed::Checksum) }
}

/// The fingerprint part of a gateway token; `None` if the text is no gateway token.
pub fn ca_fingerprint(text: &str) -> Option<&str> {
    parse(TokenKind::Gateway, text).ok()?;
    text.split('_').nth(3)
}

/// The text form of a certificate's fingerprint: the first 16 bytes of its SHA-256 in base62, 22 characters.
pub fn fingerprint(certificate_der: &[u8]) -> String {
    let digest = Sha256::digest(certificate_der);
    let mut value = u128::from_be_bytes(digest[..16].try_into().expect("SHA-256 has 32 bytes"));
    let mut text = [b'0'; 22];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

/// SHA-256 of the whole text: what is stored, sent to nodes and looked up.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn checksum(covered: &str) -> [u8; CRC] {
    let mut value = crc32fast::hash(covered.as_bytes()) as usize;
    let mut text = [b'0'; CRC];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[value % 62];
        value /= 62;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entropy() -> [u8; ENTROPY] {
        std::array::from_fn(|index| u8::try_from(index * 7 % 251).expect("below 251"))
    }

    #[test]
    fn a_minted_token_parses_to_its_public_id() {
        let text = mint(TokenKind::ApiKey, None, &entropy()).unwrap();
        assert_eq!(text.len(), 4 + 12 + 1 + 32 + 6);
        assert_eq!(parse(TokenKind::ApiKey, &text), Ok(&text[4..16]));
        assert_eq!(parse(TokenKind::PersonalAccess, &text), Err(Malformed::Shape));
    }

    #[test]
    fn one_wrong_letter_is_a_typing_error() {
        let text = mint(TokenKind::ApiKey, None, &entropy()).unwrap();
        for place in 4..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = if bytes[place] == b'x' { b'y' } else { b'x' };
            let wrong = String::from_utf8(bytes).unwrap();
            assert!(parse(TokenKind::ApiKey, &wrong).is_err(), "{place}");
        }
    }

    #[test]
    fn a_gateway_token_carries_the_fingerprint() {
        let ca = fingerprint(b"certificate");
        let text = mint(TokenKind::Gateway, Some(&ca), &entropy()).unwrap();
        assert_eq!(ca_fingerprint(&text), Some(ca.as_str()));
        assert_eq!(parse(TokenKind::Gateway, &text), Ok(&text[4..16]));
    }

    #[test]
    fn text_beyond_ascii_is_no_token() {
        assert_eq!(parse(TokenKind::ApiKey, "lgk_ééééééééé"), Err(Malformed::Shape));
        assert_eq!(parse(TokenKind::ApiKey, ""), Err(Malformed::Shape));
    }
}
