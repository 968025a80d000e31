//! Batches of usage on their way to the ledger, in order, each kept until it is acknowledged.
//!
//! On disk as append-only segments, one frame per batch; what a process that died left behind is sent by the next one
//! under its old number, so that the control plane still counts it once. A disk that cannot be written moves batches
//! to a bounded place in memory. Only when there is room in neither is a batch refused, and then it is counted.
//!
//! ```text
//! segment "<boot>-<first seq>.usage", frames:   length(4, LE) crc32(4, LE) encoded UsageBatch
//! ```

mod recover;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use prost::Message as _;
use proto::usage::{Books, UsageBatch, UsageRecord};
use uuid::Uuid;

use super::starts::Starts;
use crate::pipeline::account::Entry;

const EXTENSION: &str = "usage";
const FRAME_HEAD: usize = 8;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// All segments together, in bytes.
    pub(crate) disk: u64,
    /// A segment is closed above this, so that acknowledged batches give back their room.
    pub(crate) segment: u64,
    /// Batches that could not be written to disk, in bytes.
    pub(crate) memory: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { disk: 512 << 20, segment: 8 << 20, memory: 16 << 20 }
    }
}

/// The number of a batch; a resend carries it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) boot: Uuid,
    pub(crate) seq: u64,
}

/// There is no room left, on disk or in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) number: Number,
    /// And not in memory alone.
    pub(crate) on_disk: bool,
}

/// What waits for acknowledgement. Blocking: call it off the async threads.
pub(crate) struct Spool {
    directory: PathBuf,
    node: String,
    boot: Uuid,
    bounds: Bounds,
    next_seq: u64,
    waiting: VecDeque<Waiting>,
    segments: BTreeMap<u64, Segment>,
    next_segment: u64,
    writing: Option<Writing>,
    disk_used: u64,
    memory_used: u64,
    disk_works: bool,
    starts: Arc<Starts>,
    /// In batches of this process.
    numbered: u64,
    /// In none, for lack of room.
    refused: u64,
    /// Found damaged when the spool was opened.
    damaged: u64,
}

struct Waiting {
    number: Number,
    records: u64,
    place: Place,
    /// Requests that a kill would leave open: their records are in memory alone.
    open: Vec<Entry>,
}

/// What an acknowledgement settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) batches: usize,
    /// Of this process; those of earlier ones were counted then.
    pub(crate) records: u64,
}

/// A batch that was spooled and can no longer be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) records: u64,
}

enum Place {
    Disk { segment: u64, offset: u64, length: u32 },
    Memory(Bytes),
}

struct Segment {
    path: PathBuf,
    bytes: u64,
    waiting: usize,
}

struct Writing {
    segment: u64,
    file: File,
}

impl Spool {
    /// Opens the directory and finds what earlier processes left. A directory that cannot be used is reported and
    /// replaced by memory.
    pub(crate) fn open(directory: PathBuf, node: String, boot: Uuid, bounds: Bounds, starts: Arc<Starts>) -> Self {
        let mut spool = Self {
            directory,
            node,
            boot,
            bounds,
            next_seq: 1,
            waiting: VecDeque::new(),
            segments: BTreeMap::new(),
            next_segment: 0,
            writing: None,
            disk_used: 0,
            memory_used: 0,
            disk_works: true,
            starts,
            numbered: 0,
            refused: 0,
            damaged: 0,
        };
        if let Err(error) = spool.recover() {
            spool.disk_failed(&error);
        }
        spool
    }

    /// Numbers the records, keeps them and says under which number. The requests they tell of are settled once they are
    /// on disk, or where they were meant to go.
    pub(crate) fn append(&mut self, records: Vec<UsageRecord>, settles: Vec<Entry>) -> Result<Kept, Full> {
        let number = Number { boot: self.boot, seq: self.next_seq };
        let count = records.len() as u64;
        let books = self.starts.books();
        let books = Books {
            started: books.started,
            settled: books.settled,
            in_flight: books.in_flight,
            unsettled: books.unsettled,
            lost: self.refused,
            records: self.numbered + count,
        };
        let batch = UsageBatch {
            node: self.node.clone(),
            boot: number.boot.into_bytes().to_vec().into(),
            seq: number.seq,
            records,
            books: Some(books),
        };
        let encoded = Bytes::from(batch.encode_to_vec());
        let place = match self.write(number, &encoded) {
            Ok(Some(place)) => {
                if !self.disk_works {
                    tracing::info!("usage is written to disk again");
                    self.disk_works = true;
                }
                Ok(place)
            }
            Ok(None) => self.remember(encoded),
            Err(error) => {
                self.disk_failed(&error);
                self.remember(encoded).inspect_err(|_| {
                    // The file may hold this number all the same: nothing else may ever carry it.
                    self.next_seq += 1;
                })
            }
        };
        let place = place.inspect_err(|_| {
            self.refused += count;
            self.starts.lose(settles.iter().copied());
            self.starts.records_wait(true);
        })?;
        self.next_seq += 1;
        self.numbered += count;
        let on_disk = matches!(place, Place::Disk { .. });
        self.starts.records_wait(!on_disk);
        let open = if on_disk {
            self.starts.settle(&settles);
            Vec::new()
        } else {
            settles
        };
        self.waiting.push_back(Waiting { number, records: count, place, open });
        Ok(Kept { number, on_disk })
    }

    /// Ids of all requests whose records wait.
    pub(crate) fn ids(&self) -> HashSet<Bytes> {
        let mut ids = HashSet::new();
        for index in 0..self.len() {
            if let Some(Ok(Ok(batch))) = self.read(index).map(|read| read.map(UsageBatch::decode)) {
                ids.extend(batch.records.into_iter().map(|record| record.id));
            }
        }
        ids
    }

    /// Records that were found damaged when the spool was opened.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// How many batches wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that wait on disk and in memory.
    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.disk_used + self.memory_used
    }

    /// The batch that many places after the oldest, encoded as it was spooled; `None` past the end. One that can no
    /// longer be read is given up.
    pub(crate) fn get(&mut self, index: usize) -> Option<Result<Bytes, Unreadable>> {
        let waiting = self.waiting.get(index)?;
        let (number, records) = (waiting.number, waiting.records);
        match self.read(index)? {
            Ok(batch) => Some(Ok(batch)),
            Err(error) => {
                tracing::error!(boot = %number.boot, seq = number.seq, error = &error as &dyn std::error::Error,
                    "a batch of usage can no longer be read; it is lost");
                self.drop_at(index);
                Some(Err(Unreadable { records }))
            }
        }
    }

    fn read(&self, index: usize) -> Option<io::Result<Bytes>> {
        Some(match &self.waiting.get(index)?.place {
            Place::Memory(encoded) => Ok(encoded.clone()),
            Place::Disk { segment, offset, length } => {
                self.segments.get(segment).ok_or(io::ErrorKind::NotFound.into()).and_then(|segment| {
                    let mut file = File::open(&segment.path)?;
                    file.seek(SeekFrom::Start(offset - FRAME_HEAD as u64))?;
                    let mut frame = vec![0; FRAME_HEAD + *length as usize];
                    file.read_exact(&mut frame)?;
                    let mut frame = Bytes::from(frame);
                    let head = frame.split_to(FRAME_HEAD);
                    if head[4..] != crc32fast::hash(&frame).to_le_bytes() {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is another"));
                    }
                    Ok(frame)
                })
            }
        })
    }

    /// Forgets this batch and all before it. A number that does not wait changes nothing.
    pub(crate) fn acknowledge(&mut self, number: Number) -> Settled {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.number == number) else {
            return Settled::default();
        };
        let ours = self.waiting.range(..=index).filter(|waiting| waiting.number.boot == self.boot);
        let records = ours.map(|waiting| waiting.records).sum();
        for _ in 0..=index {
            self.drop_at(0);
        }
        Settled { batches: index + 1, records }
    }

    fn drop_at(&mut self, index: usize) {
        let Some(Waiting { place, open, .. }) = self.waiting.remove(index) else { return };
        self.starts.settle(&open);
        match place {
            Place::Memory(encoded) => self.memory_used -= encoded.len() as u64,
            Place::Disk { segment, .. } => self.release(segment),
        }
    }

    fn release(&mut self, id: u64) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.waiting -= 1;
        if segment.waiting > 0 {
            return;
        }
        if self.writing.as_ref().is_some_and(|writing| writing.segment == id) {
            self.writing = None;
        }
        if let Some(segment) = self.segments.remove(&id) {
            self.disk_used -= segment.bytes;
            if let Err(error) = fs::remove_file(&segment.path) {
                // Sent again after a restart, and not counted again then.
                tracing::warn!(file = %segment.path.display(), error = &error as &dyn std::error::Error,
                    "an acknowledged segment of usage could not be removed");
            }
        }
    }

    fn remember(&mut self, encoded: Bytes) -> Result<Place, Full> {
        let length = encoded.len() as u64;
        if self.memory_used + length > self.bounds.memory {
            return Err(Full);
        }
        self.memory_used += length;
        Ok(Place::Memory(encoded))
    }

    /// `None`: the disk's share is used up.
    fn write(&mut self, number: Number, encoded: &Bytes) -> io::Result<Option<Place>> {
        let length = u32::try_from(encoded.len()).map_err(io::Error::other)?;
        let frame = FRAME_HEAD as u64 + u64::from(length);
        if self.disk_used + frame > self.bounds.disk {
            return Ok(None);
        }
        let full = |writing: &Writing| {
            self.segments.get(&writing.segment).is_none_or(|segment| segment.bytes >= self.bounds.segment)
        };
        // Taken out: after an error the end of the file is unknown and nothing more goes into it.
        let mut writing = match self.writing.take().filter(|writing| !full(writing)) {
            Some(writing) => writing,
            None => self.new_segment(number)?,
        };
        let id = writing.segment;
        let offset = self.segments.get(&id).map_or(0, |segment| segment.bytes);
        let mut bytes = Vec::with_capacity(FRAME_HEAD + encoded.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(encoded).to_le_bytes());
        bytes.extend_from_slice(encoded);
        let written = writing.file.write_all(&bytes).and_then(|()| writing.file.sync_data());
        if let Err(error) = written {
            self.abandon(id);
            return Err(error);
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.bytes += frame;
            segment.waiting += 1;
        }
        self.disk_used += frame;
        self.writing = Some(writing);
        Ok(Some(Place::Disk { segment: id, offset: offset + FRAME_HEAD as u64, length }))
    }

    /// A segment in which nothing was ever kept leaves no trace.
    fn abandon(&mut self, id: u64) {
        if self.segments.get(&id).is_some_and(|segment| segment.waiting == 0)
            && let Some(segment) = self.segments.remove(&id)
        {
            self.disk_used -= segment.bytes;
            let _ = fs::remove_file(segment.path);
        }
    }

    fn new_segment(&mut self, number: Number) -> io::Result<Writing> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let path = self.directory.join(format!("{}-{:020}.{EXTENSION}", number.boot.as_simple(), number.seq));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.set_len(0)?;
        File::open(&self.directory)?.sync_all()?;
        let id = self.next_segment;
        self.next_segment += 1;
        self.segments.insert(id, Segment { path, bytes: 0, waiting: 0 });
        Ok(Writing { segment: id, file })
    }

    fn disk_failed(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.disk_works, false) {
            tracing::error!(directory = %self.directory.display(), error = error as &dyn std::error::Error,
                "usage cannot be written to disk and is kept in memory; a restart would lose what waits");
        }
    }
}

#[cfg(test)]
mod tests;
