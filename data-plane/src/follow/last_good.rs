//! The last known good configuration on disk, so that a node serves before, and without, the control plane.
//!
//! A cache, not a source of truth: a node with an empty disk is complete after one reset. Two generations; each file is
//! a base frame followed by a log of change frames. Every frame is sealed with AES-256-GCM under a key derived from
//! the gateway token, which protects a copied disk or backup but not against whoever can read the token beside it.
//!
//! ```text
//! "LGLK" version(1) token's public id(12) file id(16)   then frames:   length(4, LE) nonce(12) ciphertext and tag
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use hkdf::Hkdf;
use prost::Message as _;
use proto::config::{Entry, Update};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::replica::{Assembly, Change, Fault, Replica};
use crate::link::GatewayToken;

const MAGIC: &[u8; 5] = b"LGLK\x01";
const HEADER: usize = 5 + 12 + 16;
const NONCE: usize = 12;
const CURRENT: &str = "last-good";
const PREVIOUS: &str = "last-good.previous";
const NEW: &str = "last-good.new";
/// The log may grow to the size of its base, and to this much in any case, before a new base is written.
const SMALLEST_LOG: u64 = 1 << 20;

/// Why a file could not be read or written. Never holds anything that was in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the file could not be read or written")]
    Io(#[from] io::Error),
    #[error("the file is not a last known good configuration, or of a newer version")]
    Format,
    #[error("the file was written under another gateway token: {found}")]
    ForeignToken { found: String },
    #[error("the file is damaged")]
    Damaged,
    #[error("the file's content does not add up")]
    Content(#[from] Fault),
    #[error("there is nothing to write yet")]
    Nothing,
}

/// One sealed step: a change, and what is served in an older form after it.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(message, optional, tag = "1")]
    update: Option<Update>,
    #[prost(message, repeated, tag = "2")]
    pinned: Vec<Entry>,
}

/// What a start finds on disk.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) replica: Replica,
    /// Bodies served in an older form than the replica's, because the newer was rejected.
    pub(crate) pinned: Vec<Entry>,
}

/// The directory that holds the two generations. Blocking: call it off the async threads.
pub(crate) struct LastGood {
    directory: PathBuf,
    token: GatewayToken,
    open: Option<OpenFile>,
    /// The current file could not be read: the one before it is the only good one and must not be replaced by it.
    current_is_bad: bool,
}

struct OpenFile {
    file: File,
    sealer: Sealer,
    base: u64,
    length: u64,
    frames: u64,
}

impl LastGood {
    pub(crate) fn new(directory: PathBuf, token: GatewayToken) -> Self {
        Self { directory, token, open: None, current_is_bad: false }
    }

    /// The newest state that can be read, if any; says in the log what could not be. Cuts a torn end off the log.
    pub(crate) fn load(&mut self) -> Option<Loaded> {
        for name in [CURRENT, PREVIOUS] {
            let path = self.directory.join(name);
            match self.read(&path) {
                Ok((loaded, open)) => {
                    // Only the current generation is written on; after a fallback the next write makes a new one.
                    self.open = open.filter(|_| name == CURRENT);
                    self.current_is_bad = name == PREVIOUS;
                    return Some(loaded);
                }
                Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error @ StoreError::ForeignToken { .. }) => {
                    tracing::warn!(file = %path.display(), token = self.token.public_id(),
                        "last known good configuration ignored: {error}");
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), error = &error as &dyn std::error::Error,
                        "last known good configuration could not be read; trying the generation before it");
                }
            }
        }
        None
    }

    /// Makes the replica's state durable: one more frame for `change` where the file continues from there, else a
    /// whole new generation.
    pub(crate) fn persist(
        &mut self,
        replica: &Replica,
        change: Option<Change>,
        pinned: &[Entry],
    ) -> Result<(), StoreError> {
        if let Some(change) = change.filter(|change| change.from.is_some()) {
            let frame = Frame { update: Some(change.to_update()), pinned: pinned.to_vec() };
            if self.append(&frame)? {
                return Ok(());
            }
        }
        self.rewrite(replica, pinned)
    }

    /// `false`: there is no file to append to, or it is time for a new base.
    fn append(&mut self, frame: &Frame) -> Result<bool, StoreError> {
        let Some(mut open) = self.open.take() else { return Ok(false) };
        let sealed = open.sealer.seal(open.frames, frame)?;
        let length = sealed.len() as u64;
        if open.length - open.base + length > open.base.max(SMALLEST_LOG) {
            return Ok(false);
        }
        // On an error the file stays closed: its end is not known, so the next write starts a new generation.
        open.file.seek(SeekFrom::Start(open.length))?;
        open.file.write_all(&sealed)?;
        open.file.sync_data()?;
        open.length += length;
        open.frames += 1;
        self.open = Some(open);
        Ok(true)
    }

    fn rewrite(&mut self, replica: &Replica, pinned: &[Entry]) -> Result<(), StoreError> {
        let update = replica.to_update().ok_or(StoreError::Nothing)?;
        self.open = None;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let new = self.directory.join(NEW);
        let written = self.write_base(&new, &Frame { update: Some(update), pinned: pinned.to_vec() });
        let open = match written {
            Ok(open) => open,
            Err(error) => {
                // Leave no half file to fill the disk further.
                let _ = fs::remove_file(&new);
                return Err(error);
            }
        };
        let current = self.directory.join(CURRENT);
        if !self.current_is_bad {
            match fs::rename(&current, self.directory.join(PREVIOUS)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::rename(&new, &current)?;
        self.current_is_bad = false;
        File::open(&self.directory)?.sync_all()?;
        self.open = Some(open);
        Ok(())
    }

    fn write_base(&self, path: &Path, frame: &Frame) -> Result<OpenFile, StoreError> {
        let mut header = [0; HEADER];
        header[..5].copy_from_slice(MAGIC);
        header[5..17].copy_from_slice(self.token.public_id().as_bytes());
        getrandom::fill(&mut header[17..]).map_err(io::Error::other)?;
        let sealer = Sealer::new(&self.token, header);
        let sealed = sealer.seal(0, frame)?;
        let mut file = OpenOptions::new().write(true).read(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&header)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        let base = (HEADER + sealed.len()) as u64;
        Ok(OpenFile { file, sealer, base, length: base, frames: 1 })
    }

    fn read(&self, path: &Path) -> Result<(Loaded, Option<OpenFile>), StoreError> {
        let mut bytes = Zeroizing::new(Vec::new());
        File::open(path)?.read_to_end(&mut bytes)?;
        let header: [u8; HEADER] =
            bytes.get(..HEADER).and_then(|header| header.try_into().ok()).ok_or(StoreError::Format)?;
        if &header[..5] != MAGIC {
            return Err(StoreError::Format);
        }
        if &header[5..17] != self.token.public_id().as_bytes() {
            return Err(StoreError::ForeignToken { found: String::from_utf8_lossy(&header[5..17]).into_owned() });
        }
        let sealer = Sealer::new(&self.token, header);
        let mut loaded = Loaded::default();
        let (mut place, mut frames, mut base) = (HEADER, 0, 0);
        while place < bytes.len() {
            match sealer.open(frames, &bytes[place..]).and_then(|(frame, used)| {
                loaded.apply(frame)?;
                Ok(used)
            }) {
                Ok(used) => place += used,
                // Without its base a file is nothing.
                Err(error) if frames == 0 => return Err(error),
                // A crash in mid-append tears the end off; everything before it is sound and adds up.
                Err(error) => {
                    tracing::warn!(file = %path.display(), error = &error as &dyn std::error::Error,
                        "the end of the last known good configuration is torn; using what is before it");
                    break;
                }
            }
            frames += 1;
            if frames == 1 {
                base = place as u64;
            }
        }
        if frames == 0 {
            return Err(StoreError::Damaged);
        }
        let length = place as u64;
        // A file that cannot be written on is still good to start from.
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(length).map(|()| file))
            .ok()
            .map(|file| OpenFile { file, sealer, base, length, frames });
        Ok((loaded, open))
    }
}

impl Loaded {
    fn apply(&mut self, frame: Frame) -> Result<(), StoreError> {
        let Frame { update, pinned } = frame;
        let change = Assembly::default().take(update.ok_or(StoreError::Damaged)?)?.ok_or(StoreError::Damaged)?;
        self.replica.apply(change)?;
        self.pinned = pinned;
        Ok(())
    }
}

/// Seals frames for one file: a key of its own, and each frame bound to the header and its place.
struct Sealer {
    cipher: Aes256Gcm,
    header: [u8; HEADER],
}

impl Sealer {
    fn new(token: &GatewayToken, header: [u8; HEADER]) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(&header[17..]), token.secret())
            .expand(b"lockgate last known good v1", key.as_mut_slice())
            .expect("32 bytes are a legal length");
        Self { cipher: Aes256Gcm::new((&*key).into()), header }
    }

    fn associated(&self, place: u64) -> [u8; HEADER + 8] {
        let mut associated = [0; HEADER + 8];
        associated[..HEADER].copy_from_slice(&self.header);
        associated[HEADER..].copy_from_slice(&place.to_le_bytes());
        associated
    }

    fn seal(&self, place: u64, frame: &Frame) -> Result<Vec<u8>, StoreError> {
        let plain = Zeroizing::new(frame.encode_to_vec());
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let payload = Payload { msg: &plain, aad: &self.associated(place) };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| StoreError::Damaged)?;
        let length = u32::try_from(NONCE + sealed.len()).map_err(|_| StoreError::Format)?;
        Ok([&length.to_le_bytes(), &nonce[..], &sealed].concat())
    }

    /// The first frame in `bytes` and how many of them it took.
    fn open(&self, place: u64, bytes: &[u8]) -> Result<(Frame, usize), StoreError> {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(StoreError::Damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let sealed = rest.get(..length).ok_or(StoreError::Damaged)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(StoreError::Damaged)?;
        let payload = Payload { msg: sealed, aad: &self.associated(place) };
        let plain = self.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| StoreError::Damaged)?;
        // The bodies keep slices of this buffer.
        let frame = Frame::decode(bytes::Bytes::from(plain)).map_err(|_| StoreError::Damaged)?;
        Ok((frame, 4 + length))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proto::token::{self, TokenKind};

    use super::*;
    use crate::follow::replica::tests::{at, delta, entry, hash_of, reset};

    fn token(seed: u8) -> GatewayToken {
        let entropy = std::array::from_fn(|index| u8::try_from(index).expect("below 128") ^ seed);
        let text = token::mint(TokenKind::Gateway, Some(&token::fingerprint(b"ca")), &entropy).expect("entropy");
        GatewayToken::parse(&text).unwrap()
    }

    fn change(update: Update) -> Change {
        Assembly::default().take(update).unwrap().expect("one part")
    }

    /// A store with a base at revision 1 and a log of two changes.
    fn written(directory: &Path) -> Replica {
        let mut store = LastGood::new(directory.to_owned(), token(0));
        let mut replica = Replica::default();
        for update in [
            reset(1, &[entry(1, "sk-canary")]),
            delta(1, 2, &[entry(2, "b")], &[], &[entry(1, "sk-canary"), entry(2, "b")]),
            delta(2, 3, &[], &[1], &[entry(2, "b")]),
        ] {
            let change = change(update);
            replica.apply(change.clone()).unwrap();
            store.persist(&replica, Some(change), &[entry(9, "old")]).unwrap();
        }
        replica
    }

    fn load(directory: &Path) -> Option<Loaded> {
        LastGood::new(directory.to_owned(), token(0)).load()
    }

    #[test]
    fn base_and_log_come_back_with_what_is_pinned() {
        let directory = tempfile::tempdir().unwrap();
        let replica = written(directory.path());
        let loaded = load(directory.path()).unwrap();
        assert_eq!(loaded.replica.position(), Some(at(3)));
        assert_eq!(loaded.replica.to_update(), replica.to_update());
        assert_eq!(loaded.pinned, [entry(9, "old")]);
    }

    #[test]
    fn writing_goes_on_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path());
        let mut store = LastGood::new(directory.path().to_owned(), token(0));
        let mut replica = store.load().unwrap().replica;
        let size = fs::metadata(directory.path().join(CURRENT)).unwrap().len();
        let change = change(delta(3, 4, &[], &[], &[entry(2, "b")]));
        replica.apply(change.clone()).unwrap();
        store.persist(&replica, Some(change), &[]).unwrap();
        assert!(fs::metadata(directory.path().join(CURRENT)).unwrap().len() > size, "appended, not rewritten");
        assert!(!directory.path().join(PREVIOUS).exists());
        assert_eq!(load(directory.path()).unwrap().replica.position(), Some(at(4)));
    }

    #[test]
    fn nothing_of_the_content_is_readable_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path());
        let bytes = fs::read(directory.path().join(CURRENT)).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"sk-canary"));
        let mode = fs::metadata(directory.path().join(CURRENT)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_cut_anywhere_gives_an_earlier_sound_state_or_none() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path());
        let path = directory.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            seen.insert(load(directory.path()).map(|loaded| loaded.replica.position().unwrap().revision));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [None, Some(1), Some(2)]);
    }

    #[test]
    fn a_flipped_bit_never_gives_another_state() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path());
        let path = directory.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        let states = [
            hash_of(&[entry(1, "sk-canary")]),
            hash_of(&[entry(1, "sk-canary"), entry(2, "b")]),
            hash_of(&[entry(2, "b")]),
        ];
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            if let Some(loaded) = load(directory.path()) {
                assert!(states[..2].contains(&loaded.replica.hash()), "byte {place}");
            }
        }
    }

    #[test]
    fn a_corrupt_file_falls_back_to_the_generation_before_it() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path());
        let mut store = LastGood::new(directory.path().to_owned(), token(0));
        let mut replica = store.load().unwrap().replica;
        let change = change(reset(7, &[entry(5, "e")]));
        replica.apply(change.clone()).unwrap();
        store.persist(&replica, Some(change), &[]).unwrap();
        let path = directory.path().join(CURRENT);
        let mut bytes = fs::read(&path).unwrap();
        bytes[HEADER + 30] ^= 1;
        fs::write(&path, bytes).unwrap();

        let mut store = LastGood::new(directory.path().to_owned(), token(0));
        let mut replica = store.load().unwrap().replica;
        assert_eq!(replica.position(), Some(at(3)));
        // The next change writes a whole generation beside the one that was good.
        let change = self::change(delta(3, 8, &[], &[], &[entry(2, "b")]));
        replica.apply(change.clone()).unwrap();
        store.persist(&replica, Some(change), &[]).unwrap();
        assert_eq!(load(directory.path()).unwrap().replica.position(), Some(at(8)));
        fs::remove_file(path).unwrap();
        assert_eq!(load(directory.path()).unwrap().replica.position(), Some(at(3)), "kept until a better one is older");
    }

    #[test]
    fn a_file_of_another_token_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path());
        assert!(LastGood::new(directory.path().to_owned(), token(1)).load().is_none());
        // Nor does it open when its header is made to lie.
        let path = directory.path().join(CURRENT);
        let mut bytes = fs::read(&path).unwrap();
        bytes[5..17].copy_from_slice(token(1).public_id().as_bytes());
        fs::write(&path, bytes).unwrap();
        assert!(LastGood::new(directory.path().to_owned(), token(1)).load().is_none());
    }

    #[test]
    fn a_long_log_becomes_a_new_base() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = LastGood::new(directory.path().to_owned(), token(0));
        let mut replica = Replica::default();
        let big = |revision: u64| entry(1, &format!("{revision}").repeat(300_000));
        let first = change(reset(1, &[big(1)]));
        replica.apply(first.clone()).unwrap();
        store.persist(&replica, Some(first), &[]).unwrap();
        for revision in 2..9 {
            let change = change(delta(revision - 1, revision, &[big(revision)], &[], &[big(revision)]));
            replica.apply(change.clone()).unwrap();
            store.persist(&replica, Some(change), &[]).unwrap();
        }
        assert!(directory.path().join(PREVIOUS).exists());
        assert!(fs::metadata(directory.path().join(CURRENT)).unwrap().len() < 1_500_000);
        assert_eq!(load(directory.path()).unwrap().replica.position(), Some(at(8)));
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_an_error_and_no_panic() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut store = LastGood::new(file.path().join("below-a-file"), token(0));
        let mut replica = Replica::default();
        let change = change(reset(1, &[]));
        replica.apply(change.clone()).unwrap();
        assert!(store.load().is_none());
        assert!(matches!(store.persist(&replica, Some(change), &[]), Err(StoreError::Io(_))));
    }
}
