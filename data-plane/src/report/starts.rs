//! Start entries: that a request is about to be sent, written before its first byte goes to a vendor, so that a process
//! that is killed leaves behind which of its requests were open. Whoever finds such an entry reports it as unsettled.
//!
//! Each worker has two files in the usage directory, which grow to the most requests that were ever open at once:
//!
//! ```text
//! "<boot>-<worker>.starts"    slots of 256 bytes, each written by the worker with one `pwrite`, see `entry.rs`
//! "<boot>-<worker>.settled"   for each slot 8 bytes, LE: the number of the last start in it that is settled
//! ```
//!
//! An entry is open while its number is above its slot's mark. A mark is written by the thread that spools records, many
//! at once, and only when the record is on disk itself: a killed process leaves a request's start, its record, or both,
//! and never neither. The process holds a lock on its files, so that nobody takes what is alive for what is left.

mod entry;
mod found;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use uuid::Uuid;

pub(super) use self::found::find;
use crate::pipeline::account::{Entry, NotWritten, Start};
use crate::stripe::Apart;

const STARTS: &str = "starts";
const SETTLED: &str = "settled";
/// Bytes of a slot's mark.
const MARK: usize = 8;
/// Slots of a worker's file at most: 16 MiB. Requests beyond are not written down.
const SLOTS: usize = 65_536;

/// What a node says of its requests: `started = settled + in_flight + unsettled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// About to be sent, those that an earlier process left open included.
    pub(crate) started: u64,
    /// Their records are on disk.
    pub(crate) settled: u64,
    /// Open, or their records are on their way to the disk.
    pub(crate) in_flight: u64,
    /// Left open by an earlier process, or their records were lost.
    pub(crate) unsettled: u64,
    /// Started without being written down: a kill would forget them.
    pub(crate) unwritten: u64,
}

/// The start entries of this process.
#[derive(Debug)]
pub(crate) struct Starts {
    directory: PathBuf,
    boot: Uuid,
    /// Nothing may be sent that is not written down.
    strict: bool,
    shelves: Box<[Apart<Shelf>]>,
    /// Records cannot be written to disk.
    records_wait: AtomicBool,
    found: AtomicU64,
}

/// Those of one worker.
#[derive(Debug, Default)]
struct Shelf {
    files: OnceLock<Files>,
    table: Mutex<Table>,
    unwritten: AtomicU64,
    /// Starts that are certainly on the device.
    synced: AtomicU64,
}

#[derive(Debug)]
struct Files {
    starts: File,
    settled: File,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    /// The last one freed is taken first: the files stay small.
    free: Vec<u32>,
    /// As they are on disk.
    marks: Vec<u8>,
    number: u64,
    started: u64,
    settled: u64,
    unsettled: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Taken,
    /// Its record is lost. Stays on disk, for the next process to report.
    Lost,
}

impl Starts {
    /// For so many workers. A directory that cannot be used is tried again by [`Self::keep`].
    pub(crate) fn open(directory: PathBuf, boot: Uuid, workers: usize, strict: bool) -> Self {
        let starts = Self {
            directory,
            boot,
            strict,
            shelves: (0..workers).map(|_| Apart::default()).collect(),
            records_wait: AtomicBool::new(false),
            found: AtomicU64::new(0),
        };
        if let Err(error) = starts.open_files() {
            tracing::error!(directory = %starts.directory.display(), error = &error as &dyn std::error::Error,
                "starts of requests cannot be written to disk; a kill would forget those that are open");
        }
        starts
    }

    /// Writes it down. The one system call that a request costs here.
    pub(crate) fn begin(&self, start: &Start<'_>) -> Result<Entry, NotWritten> {
        let shelf = &self.shelves[start.worker].0;
        let (slot, number) = shelf.table().take();
        let entry = Entry { worker: u32::try_from(start.worker).unwrap_or(u32::MAX), slot, number };
        let written = (slot as usize) < SLOTS
            && !(self.strict && self.records_wait.load(Ordering::Relaxed))
            && shelf.files.get().is_some_and(|files| {
                let mut bytes = [0; entry::SLOT];
                let used = entry::encode(start, number, &mut bytes);
                files.starts.write_all_at(&bytes[..used], u64::from(slot) * entry::SLOT as u64).is_ok()
            });
        if written {
            return Ok(entry);
        }
        if self.strict {
            shelf.table().give_back(slot);
            return Err(NotWritten);
        }
        shelf.unwritten.fetch_add(1, Ordering::Relaxed);
        Ok(entry)
    }

    /// Their records are on disk, or where they were meant to go.
    pub(super) fn settle(&self, entries: &[Entry]) {
        for (worker, Apart(shelf)) in self.shelves.iter().enumerate() {
            let mut changed: Option<(usize, usize)> = None;
            let mut table = shelf.table();
            for entry in entries.iter().filter(|entry| entry.worker as usize == worker) {
                if let Some(slot) = table.settle(*entry) {
                    let (first, last) = changed.unwrap_or((slot, slot));
                    changed = Some((first.min(slot), last.max(slot)));
                }
            }
            let Some((first, last)) = changed else { continue };
            let last = last.min(SLOTS - 1);
            if first > last {
                continue;
            }
            let bytes = table.marks[first * MARK..(last + 1) * MARK].to_vec();
            drop(table);
            // Unmarked, they would be reported twice after a kill, and the ledger would count them once all the same.
            let written = shelf.files.get().map(|files| files.settled.write_all_at(&bytes, (first * MARK) as u64));
            if let Some(Err(error)) = written {
                tracing::debug!(%error, "settled starts could not be marked");
            }
        }
    }

    /// Their records are lost. What was written of them stays, and is reported by the next process.
    pub(super) fn lose(&self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if let Some(Apart(shelf)) = self.shelves.get(entry.worker as usize) {
                shelf.table().lose(entry);
            }
        }
    }

    /// So many were found that an earlier process had left.
    pub(super) fn took_over(&self, found: u64) {
        self.found.fetch_add(found, Ordering::Relaxed);
    }

    /// Whether records have to wait in memory, or for nothing.
    pub(super) fn records_wait(&self, wait: bool) {
        self.records_wait.store(wait, Ordering::Relaxed);
    }

    /// A shelf at a time: nobody waits for a sum.
    pub(crate) fn books(&self) -> Books {
        let found = self.found.load(Ordering::Relaxed);
        let mut books = Books { started: found, unsettled: found, ..Books::default() };
        for Apart(shelf) in &self.shelves {
            books.unwritten += shelf.unwritten.load(Ordering::Relaxed);
            let table = shelf.table();
            books.started += table.started;
            books.settled += table.settled;
            books.unsettled += table.unsettled;
            // Counted anew, not computed: what was taken and never given back is seen.
            books.in_flight += table.slots.iter().filter(|slot| slot.state == State::Taken).count() as u64;
        }
        books
    }

    /// What is due once in a while: brings what was written to the device, and opens files that could not be. Blocking.
    pub(super) fn keep(&self) -> io::Result<()> {
        self.open_files()?;
        for Apart(shelf) in &self.shelves {
            let started = shelf.table().number;
            if let Some(files) = shelf.files.get()
                && shelf.synced.swap(started, Ordering::Relaxed) != started
            {
                files.starts.sync_data()?;
                files.settled.sync_data()?;
            }
        }
        Ok(())
    }

    /// Takes away files in which nothing is open. Call it when nothing begins any more.
    pub(super) fn close(&self) {
        for (worker, Apart(shelf)) in self.shelves.iter().enumerate() {
            let open = shelf.table().slots.iter().any(|slot| slot.state != State::Free);
            if !open && shelf.files.get().is_some() {
                let [starts, settled] = self.paths(worker);
                remove(&starts, &settled);
            }
        }
    }

    fn open_files(&self) -> io::Result<()> {
        if self.shelves.iter().all(|Apart(shelf)| shelf.files.get().is_some()) {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        for (worker, Apart(shelf)) in self.shelves.iter().enumerate() {
            if shelf.files.get().is_none() {
                let [starts, settled] = self.paths(worker).map(|path| {
                    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
                });
                let (starts, settled) = (starts?, settled?);
                starts.try_lock().map_err(io::Error::from)?;
                let _ = shelf.files.set(Files { starts, settled });
            }
        }
        File::open(&self.directory)?.sync_all()
    }

    fn paths(&self, worker: usize) -> [PathBuf; 2] {
        let name = |extension| self.directory.join(format!("{}-{worker}.{extension}", self.boot.as_simple()));
        [name(STARTS), name(SETTLED)]
    }
}

impl Shelf {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere does not spoil it: nothing in between can fail.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self) -> (u32, u64) {
        self.number += 1;
        self.started += 1;
        let taken = Slot { number: self.number, state: State::Taken };
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = taken;
            return (slot, self.number);
        }
        self.slots.push(taken);
        self.marks.extend([0; MARK]);
        (u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX), self.number)
    }

    /// It was not begun after all.
    fn give_back(&mut self, slot: u32) {
        self.started -= 1;
        self.slots[slot as usize].state = State::Free;
        self.free.push(slot);
    }

    /// The slot that was freed.
    fn settle(&mut self, entry: Entry) -> Option<usize> {
        let index = entry.slot as usize;
        let slot =
            self.slots.get_mut(index).filter(|slot| slot.number == entry.number && slot.state == State::Taken)?;
        slot.state = State::Free;
        self.free.push(entry.slot);
        self.settled += 1;
        self.marks[index * MARK..(index + 1) * MARK].copy_from_slice(&entry.number.to_le_bytes());
        Some(index)
    }

    fn lose(&mut self, entry: Entry) {
        let slot = self.slots.get_mut(entry.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.number == entry.number && slot.state == State::Taken) {
            slot.state = State::Lost;
            self.unsettled += 1;
        }
    }
}

fn remove(starts: &Path, settled: &Path) {
    // In this order: marks alone say nothing.
    for path in [starts, settled] {
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), %error, "a file of starts could not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
