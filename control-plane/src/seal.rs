//! Sealing of secrets at rest: AES-256-GCM under a key of its own per record, that key wrapped by a master key.
//!
//! The master keys form a ring: the first seals, all open, so that a new one can be put in front while old records
//! stay readable. A sealed value is bound to its place (table, row, column, version): bytes copied to another row, or
//! an older value put back, do not open. This module knows no store and no file; see [`crate::store::master_key`] for
//! where the ring comes from and how a wrong one is found out.
//!
//! Layout: format (1 byte, `1`), master key id (8), nonce (12), wrapped record key (32 + 16), nonce (12), ciphertext
//! with tag.

use std::fmt;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::random;
use crate::sensitive::Sensitive;

const FORMAT: u8 = 1;
const ID: usize = 8;
const NONCE: usize = 12;
const KEY: usize = 32;
const TAG: usize = 16;
const HEAD: usize = 1 + ID + NONCE + KEY + TAG + NONCE;

/// Where a sealed value stands. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Name of the table.
    pub table: &'static str,
    /// Id of the row.
    pub row: Uuid,
    /// Name of the column.
    pub column: &'static str,
    /// Version of the value within the row; 0 where values are never replaced.
    pub version: i64,
}

impl Place {
    /// Unambiguous bytes: every text is preceded by its length. `part` tells the wrapped key from the value.
    fn bytes(&self, part: u8) -> Vec<u8> {
        let mut bytes = vec![FORMAT, part];
        for text in [self.table, self.column] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend(self.row.as_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes
    }
}

const WRAPPED_KEY: u8 = 1;
const VALUE: u8 = 2;

/// Names a master key without telling anything about it: a digest, so that one id cannot mean two keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID]);

impl KeyId {
    fn of(key: &[u8; KEY]) -> Self {
        let digest = Sha256::new().chain_update(b"lockgate master key id\0").chain_update(key).finalize();
        let mut id = [0; ID];
        id.copy_from_slice(&digest[..ID]);
        Self(id)
    }

    /// The id under which `sealed` was sealed; `None` if these bytes are no sealed value.
    pub fn of_sealed(sealed: &[u8]) -> Option<Self> {
        if sealed.len() < HEAD + TAG || sealed[0] != FORMAT {
            return None;
        }
        sealed[1..=ID].try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not in the layout this version writes.
    #[error("the bytes are no sealed value")]
    Malformed,
    /// The ring lacks the key.
    #[error("sealed with master key {0}, which is not in the key ring")]
    UnknownKey(KeyId),
    /// Changed, or moved from another place, or an older version of the value.
    #[error("the sealed value was altered or belongs to another place")]
    Altered,
}

/// Why a text is no key ring. Lines are counted from 1; the text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No key at all.
    #[error("there is no key in it")]
    Empty,
    /// A line that is neither empty, nor a comment, nor a key.
    #[error("line {0} is not of the form `<id> <key in base64>`")]
    Line(usize),
    /// The id at the start of a line is not the id of the key that follows.
    #[error("line {line} names key {named} but holds another; it was damaged or mixed up")]
    Mismatch {
        /// Of the text.
        line: usize,
        /// As written.
        named: KeyId,
    },
}

/// The master keys. Never empty; the first seals, all open.
pub struct Keyring {
    keys: Vec<MasterKey>,
}

struct MasterKey {
    id: KeyId,
    cipher: Aes256Gcm,
}

impl Keyring {
    /// Text for a new key file: one new key and a comment saying what it is.
    pub fn generate() -> Sensitive {
        let key = Zeroizing::new(random::bytes::<KEY>());
        let encoded = Zeroizing::new(BASE64.encode(*key));
        Sensitive::new(format!(
            "# Lockgate master keys, one per line: <id> <key>. The first line seals, all lines open.\n\
             # Keep a copy apart from the backups of the store: without it no stored credential can be read.\n\
             {} {}\n",
            KeyId::of(&key),
            encoded.as_str()
        ))
    }

    /// Reads the text of a key file.
    pub fn parse(text: &Sensitive) -> Result<Self, RingError> {
        let mut keys = Vec::new();
        for (index, line) in text.expose().lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = line.split_once(' ').ok_or(RingError::Line(line_number))?;
            let named = parse_id(id).ok_or(RingError::Line(line_number))?;
            let decoded = Zeroizing::new(BASE64.decode(key.trim()).map_err(|_| RingError::Line(line_number))?);
            let key: &[u8; KEY] = decoded.as_slice().try_into().map_err(|_| RingError::Line(line_number))?;
            let id = KeyId::of(key);
            if id != named {
                return Err(RingError::Mismatch { line: line_number, named });
            }
            keys.push(MasterKey { id, cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)) });
        }
        if keys.is_empty() { Err(RingError::Empty) } else { Ok(Self { keys }) }
    }

    /// The key that seals.
    pub fn first(&self) -> KeyId {
        self.keys[0].id
    }

    /// All keys, in order.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|key| key.id)
    }

    /// Seals a value for its place.
    pub fn seal(&self, place: &Place, value: &Sensitive) -> Vec<u8> {
        let master = &self.keys[0];
        let record_key = Zeroizing::new(random::bytes::<KEY>());
        let key_nonce = random::bytes::<NONCE>();
        let value_nonce = random::bytes::<NONCE>();
        let wrapped = encrypt(&master.cipher, key_nonce, &place.bytes(WRAPPED_KEY), record_key.as_slice());
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*record_key));
        let value = encrypt(&cipher, value_nonce, &place.bytes(VALUE), value.expose().as_bytes());

        let mut sealed = Vec::with_capacity(HEAD + value.len());
        sealed.push(FORMAT);
        sealed.extend(master.id.0);
        sealed.extend(key_nonce);
        sealed.extend(wrapped);
        sealed.extend(value_nonce);
        sealed.extend(value);
        sealed
    }

    /// Opens what [`Self::seal`] sealed for the same place.
    pub fn open(&self, place: &Place, sealed: &[u8]) -> Result<Sensitive, OpenError> {
        let id = KeyId::of_sealed(sealed).ok_or(OpenError::Malformed)?;
        let master = self.keys.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey(id))?;
        let (key_nonce, rest) = sealed[1 + ID..].split_at(NONCE);
        let (wrapped, rest) = rest.split_at(KEY + TAG);
        let (value_nonce, value) = rest.split_at(NONCE);

        let record_key = Zeroizing::new(decrypt(&master.cipher, key_nonce, &place.bytes(WRAPPED_KEY), wrapped)?);
        let record_key: &[u8; KEY] = record_key.as_slice().try_into().map_err(|_| OpenError::Altered)?;
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*record_key));
        let value = decrypt(&cipher, value_nonce, &place.bytes(VALUE), value)?;
        // Only text is ever sealed, and the tag has just proven that this is what was sealed.
        String::from_utf8(value).map(Sensitive::new).map_err(|_| OpenError::Malformed)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.ids()).finish()
    }
}

fn parse_id(text: &str) -> Option<KeyId> {
    if text.len() != ID * 2 || !text.is_ascii() {
        return None;
    }
    let mut id = [0; ID];
    for (place, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(KeyId(id))
}

fn encrypt(cipher: &Aes256Gcm, nonce: [u8; NONCE], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    cipher.encrypt(&Nonce::from(nonce), Payload { msg, aad }).expect("values are far below AES-GCM's 64 GiB")
}

fn decrypt(cipher: &Aes256Gcm, nonce: &[u8], aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, OpenError> {
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| OpenError::Malformed)?;
    cipher.decrypt(&Nonce::from(nonce), Payload { msg, aad }).map_err(|_| OpenError::Altered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "sk-canary-0123456789";

    fn place() -> Place {
        Place { table: "secret", row: Uuid::from_u128(7), column: "sealed_value", version: 3 }
    }

    fn ring() -> Keyring {
        Keyring::parse(&Keyring::generate()).unwrap()
    }

    fn secret() -> Sensitive {
        Sensitive::new(CANARY.to_owned())
    }

    #[test]
    fn a_sealed_value_opens_at_its_place() {
        let ring = ring();
        let sealed = ring.seal(&place(), &secret());
        assert_eq!(ring.open(&place(), &sealed).unwrap().expose(), CANARY);
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
    }

    #[test]
    fn a_sealed_value_opens_nowhere_else() {
        let ring = ring();
        let sealed = ring.seal(&place(), &secret());
        for other in [
            Place { table: "other", ..place() },
            Place { row: Uuid::from_u128(8), ..place() },
            Place { column: "other", ..place() },
            Place { version: 2, ..place() },
        ] {
            assert_eq!(ring.open(&other, &sealed).unwrap_err(), OpenError::Altered, "{other:?}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let ring = ring();
        let sealed = ring.seal(&place(), &secret());
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(ring.open(&place(), &altered).is_err(), "byte {index}");
        }
        for length in 0..sealed.len() {
            assert!(ring.open(&place(), &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn the_same_value_never_seals_to_the_same_bytes() {
        let ring = ring();
        let (one, other) = (ring.seal(&place(), &secret()), ring.seal(&place(), &secret()));
        assert_ne!(one[1 + ID..], other[1 + ID..]);
    }

    #[test]
    fn a_new_first_key_seals_and_the_old_one_still_opens() {
        let (old, new) = (Keyring::generate(), Keyring::generate());
        let before = Keyring::parse(&old).unwrap();
        let sealed = before.seal(&place(), &secret());
        let both = Keyring::parse(&Sensitive::new(format!("{}{}", new.expose(), old.expose()))).unwrap();
        assert_eq!(both.open(&place(), &sealed).unwrap().expose(), CANARY);
        assert_eq!(KeyId::of_sealed(&both.seal(&place(), &secret())), Some(both.first()));
        assert_ne!(both.first(), before.first());
    }

    #[test]
    fn an_unknown_key_is_named() {
        let ring = ring();
        let sealed = ring.seal(&place(), &secret());
        let other = Keyring::parse(&Keyring::generate()).unwrap();
        assert_eq!(other.open(&place(), &sealed).unwrap_err(), OpenError::UnknownKey(ring.first()));
    }

    #[test]
    fn a_damaged_key_file_is_refused_without_repeating_it() {
        let text = Keyring::generate();
        let key = text.expose().split_whitespace().last().unwrap().to_owned();
        let damaged = key.replacen(&key[..1], if key.starts_with('A') { "B" } else { "A" }, 1);
        let error = Keyring::parse(&Sensitive::new(text.expose().replace(&key, &damaged))).unwrap_err();
        assert!(matches!(error, RingError::Mismatch { line: 3, .. }), "{error}");
        assert!(!error.to_string().contains(&damaged[..8]));

        for (text, expected) in [
            ("", RingError::Empty),
            ("# only a comment\n", RingError::Empty),
            ("no-space", RingError::Line(1)),
            ("\n0123456789abcdef not-base64!", RingError::Line(2)),
            ("0123456789abcdef c2hvcnQ=", RingError::Line(1)),
        ] {
            assert_eq!(Keyring::parse(&Sensitive::new(text.to_owned())).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn debug_of_a_ring_shows_ids_alone() {
        let text = Keyring::generate();
        let ring = Keyring::parse(&text).unwrap();
        assert_eq!(format!("{ring:?}"), format!("[{}]", ring.first()));
    }
}
