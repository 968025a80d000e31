//! What earlier processes left open.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use proto::usage::UsageRecord;

use super::{MARK, SETTLED, STARTS, entry, remove};

/// A file of starts whose process is gone.
#[derive(Debug)]
pub(in crate::report) struct Found {
    starts: PathBuf,
    settled: PathBuf,
    /// Nobody else may find it meanwhile.
    _locked: File,
    /// Those that are open.
    pub(in crate::report) open: Vec<UsageRecord>,
}

impl Found {
    /// They are in somebody else's care now.
    pub(in crate::report) fn remove(self) {
        remove(&self.starts, &self.settled);
    }
}

/// All of them. What cannot be read stays for the next start.
pub(in crate::report) fn find(directory: &Path) -> Vec<Found> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => return Vec::new(),
    };
    paths.retain(|path| path.extension().is_some_and(|extension| extension == STARTS));
    paths.sort();
    let read = |path: PathBuf| {
        let found = read(&path);
        if let Err(error) = &found {
            tracing::error!(file = %path.display(), error = error as &dyn std::error::Error,
                "starts of an earlier process could not be read; they are tried again at the next start");
        }
        found.ok().flatten()
    };
    paths.into_iter().filter_map(read).collect()
}

/// `None`: its process is alive.
fn read(path: &Path) -> io::Result<Option<Found>> {
    let file = File::open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let settled = path.with_extension(SETTLED);
    let marks = match fs::read(&settled) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        marks => marks?,
    };
    let mark = |slot: usize| {
        let mark = marks.get(slot * MARK..).and_then(|rest| rest.first_chunk());
        mark.map_or(0, |mark| u64::from_le_bytes(*mark))
    };
    let slots = fs::read(path)?;
    let slots = slots.chunks(entry::SLOT).enumerate();
    let open = slots.filter_map(|(slot, bytes)| entry::decode(bytes).filter(|(number, _)| *number > mark(slot)));
    let open = open.map(|(_, record)| record).collect();
    Ok(Some(Found { starts: path.to_owned(), settled, _locked: file, open }))
}
