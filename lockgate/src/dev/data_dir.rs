//! The data directory of `lockgate dev`: what lies where, and that nobody else can read it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// An open data directory. Locked against a second process for as long as it lives.
pub(super) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is absent.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use the data directory {}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(cannot)?;
        // It may be older than this, and somebody else's umask may have been wider.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).with_context(cannot)?;
        let path = path.canonicalize().with_context(cannot)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock = lock.with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another `lockgate dev` is using {}; stop it, or choose another --data-dir", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn control_plane(&self) -> PathBuf {
        self.path.join("control-plane")
    }

    pub(super) fn data_plane(&self) -> PathBuf {
        self.path.join("data-plane")
    }

    /// Written by the control plane, read by the node.
    pub(super) fn gateway_token(&self) -> PathBuf {
        self.path.join("gateway-token")
    }

    /// The API key that was made for the sample providers; the control plane shows it only once.
    pub(super) fn sample_key(&self) -> Option<String> {
        let key = fs::read_to_string(self.path.join("sample-key")).ok()?;
        Some(key.trim().to_owned()).filter(|key| !key.is_empty())
    }

    pub(super) fn keep_sample_key(&self, key: &str) -> anyhow::Result<()> {
        write(&self.path.join("sample-key"), key.as_bytes()).context("cannot keep the sample key")
    }

    /// Where the sample upstream listened at the last start.
    pub(super) fn sample_port(&self) -> Option<u16> {
        fs::read_to_string(self.path.join("sample-port")).ok()?.trim().parse().ok()
    }

    pub(super) fn keep_sample_port(&self, port: u16) -> anyhow::Result<()> {
        write(&self.path.join("sample-port"), port.to_string().as_bytes()).context("cannot keep the sample's port")
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    // Left over from a process that was killed and had our number.
    remove(&new)?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = remove(&new);
    }
    written
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open(&parent.path().join("a/b")).unwrap();
        data.keep_sample_key("lgk_x").unwrap();
        data.keep_sample_key("lgk_y").unwrap();
        assert_eq!(data.sample_key().as_deref(), Some("lgk_y"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.path), 0o700);
        assert_eq!(mode(&data.path.join("sample-key")), 0o600);
    }

    #[test]
    fn a_second_process_is_told_to_choose_another_directory() {
        let parent = tempfile::tempdir().unwrap();
        let first = DataDir::open(parent.path()).unwrap();
        let second = DataDir::open(parent.path()).err().unwrap();
        assert!(second.to_string().contains("--data-dir"), "{second}");
        drop(first);
        DataDir::open(parent.path()).unwrap();
    }
}
