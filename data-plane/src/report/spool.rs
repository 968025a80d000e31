//! Batches of usage on their way to the ledger, in order, each kept until it is acknowledged.
//!
//! On disk as append-only segments, one frame per batch; what a process that died left behind is sent by the next one
//! under its old number, so that the control plane still counts it once. A disk that cannot be written moves batches
//! to a bounded place in memory. Only when there is room in neither is a batch refused, and then it is counted.
//!
//! ```text
//! segment "<boot>-<first seq>.usage", frames:   length(4, LE) crc32(4, LE) encoded UsageBatch
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message as _;
use proto::usage::{UsageBatch, UsageRecord};
use uuid::Uuid;

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
}

struct Waiting {
    number: Number,
    records: u64,
    place: Place,
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
    pub(crate) fn open(directory: PathBuf, node: String, boot: Uuid, bounds: Bounds) -> Self {
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
        };
        if let Err(error) = spool.recover() {
            spool.disk_failed(&error);
        }
        spool
    }

    /// Numbers the records, keeps them and says under which number.
    pub(crate) fn append(&mut self, records: Vec<UsageRecord>) -> Result<Number, Full> {
        let number = Number { boot: self.boot, seq: self.next_seq };
        let batch = UsageBatch {
            node: self.node.clone(),
            boot: number.boot.into_bytes().to_vec().into(),
            seq: number.seq,
            records,
        };
        let encoded = Bytes::from(batch.encode_to_vec());
        let records = batch.records.len() as u64;
        let place = match self.write(number, &encoded) {
            Ok(Some(place)) => {
                if !self.disk_works {
                    tracing::info!("usage is written to disk again");
                    self.disk_works = true;
                }
                place
            }
            Ok(None) => self.remember(encoded)?,
            Err(error) => {
                self.disk_failed(&error);
                self.remember(encoded).inspect_err(|_| {
                    // The file may hold this number all the same: nothing else may ever carry it.
                    self.next_seq += 1;
                })?
            }
        };
        self.next_seq += 1;
        self.waiting.push_back(Waiting { number, records, place });
        Ok(number)
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

    /// The batch that many places after the oldest; `None` past the end. One that can no longer be read is given up.
    pub(crate) fn get(&mut self, index: usize) -> Option<Result<UsageBatch, Unreadable>> {
        let waiting = self.waiting.get(index)?;
        let (number, records) = (waiting.number, waiting.records);
        let read = match &waiting.place {
            Place::Memory(encoded) => Ok(encoded.clone()),
            Place::Disk { segment, offset, length } => {
                self.segments.get(segment).ok_or(io::ErrorKind::NotFound.into()).and_then(|segment| {
                    let mut file = File::open(&segment.path)?;
                    file.seek(SeekFrom::Start(*offset))?;
                    let mut bytes = vec![0; *length as usize];
                    file.read_exact(&mut bytes)?;
                    Ok(Bytes::from(bytes))
                })
            }
        };
        let batch = read.and_then(|bytes| UsageBatch::decode(bytes).map_err(io::Error::other));
        match batch {
            Ok(batch) => Some(Ok(batch)),
            Err(error) => {
                tracing::error!(boot = %number.boot, seq = number.seq, error = &error as &dyn std::error::Error,
                    "a batch of usage can no longer be read; it is lost");
                self.drop_at(index);
                Some(Err(Unreadable { records }))
            }
        }
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
        match self.waiting.remove(index).map(|waiting| waiting.place) {
            None => {}
            Some(Place::Memory(encoded)) => self.memory_used -= encoded.len() as u64,
            Some(Place::Disk { segment, .. }) => self.release(segment),
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

    fn recover(&mut self) -> io::Result<()> {
        let mut paths = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?,
        };
        // Boots are UUIDv7 and numbers are padded: the order of names is the order of time.
        paths.sort();
        for path in paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION)) {
            // One that cannot be read stays where it is, and holds up none of the others.
            if let Err(error) = self.recover_segment(path.clone()) {
                tracing::error!(
                    file = %path.display(),
                    error = &error as &dyn std::error::Error,
                    "a segment of usage could not be recovered; it is tried again at the next start"
                );
            }
        }
        if !self.waiting.is_empty() {
            tracing::info!(batches = self.waiting.len(), "usage of an earlier process waits to be sent");
        }
        Ok(())
    }

    fn recover_segment(&mut self, path: PathBuf) -> io::Result<()> {
        let content = fs::read(&path)?;
        let id = self.next_segment;
        self.next_segment += 1;
        let (mut offset, mut count) = (0_usize, 0_usize);
        while let Some((length, batch)) = frame_at(&content[offset..]) {
            if let Ok(boot) = Uuid::from_slice(&batch.boot) {
                let place = Place::Disk { segment: id, offset: (offset + FRAME_HEAD) as u64, length };
                let (number, records) = (Number { boot, seq: batch.seq }, batch.records.len() as u64);
                self.waiting.push_back(Waiting { number, records, place });
                count += 1;
            }
            offset += FRAME_HEAD + length as usize;
        }
        if offset < content.len() {
            report_torn(&path, content.len() - offset);
        }
        if count == 0 {
            return fs::remove_file(path);
        }
        self.disk_used += content.len() as u64;
        self.segments.insert(id, Segment { path, bytes: content.len() as u64, waiting: count });
        Ok(())
    }

    fn disk_failed(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.disk_works, false) {
            tracing::error!(directory = %self.directory.display(), error = error as &dyn std::error::Error,
                "usage cannot be written to disk and is kept in memory; a restart would lose what waits");
        }
    }
}

/// A crash tears off at most the batch that was being written, which no one was promised.
fn report_torn(path: &Path, bytes: usize) {
    tracing::warn!(file = %path.display(), bytes, "the end of a usage segment is torn; using what is before it");
}

fn frame_at(bytes: &[u8]) -> Option<(u32, UsageBatch)> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let encoded = rest.get(..length as usize)?;
    let sound = length > 0 && crc32fast::hash(encoded) == sum;
    sound.then(|| UsageBatch::decode(encoded).ok()).flatten().map(|batch| (length, batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    const LATER: Uuid = Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001);

    fn open(directory: &Path, boot: Uuid, bounds: Bounds) -> Spool {
        Spool::open(directory.to_owned(), "node-1".to_owned(), boot, bounds)
    }

    fn record(status: u32) -> UsageRecord {
        UsageRecord { status, path: "/v1/chat/completions".to_owned(), ..UsageRecord::default() }
    }

    fn number(boot: Uuid, seq: u64) -> Number {
        Number { boot, seq }
    }

    fn waiting(spool: &mut Spool) -> Vec<(Uuid, u64, u32)> {
        (0..spool.len())
            .map(|index| {
                let batch = spool.get(index).unwrap().unwrap();
                (Uuid::from_slice(&batch.boot).unwrap(), batch.seq, batch.records[0].status)
            })
            .collect()
    }

    #[test]
    fn what_was_not_acknowledged_is_there_after_a_restart_under_its_old_number() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path(), BOOT, Bounds::default());
        for status in 1..=3 {
            spool.append(vec![record(status)]).unwrap();
        }
        assert_eq!(spool.acknowledge(number(BOOT, 1)), Settled { batches: 1, records: 1 });
        drop(spool);
        let mut spool = open(directory.path(), LATER, Bounds::default());
        spool.append(vec![record(9)]).unwrap();
        // The first is sent again, too: the control plane knows it by its number.
        assert_eq!(waiting(&mut spool), [(BOOT, 1, 1), (BOOT, 2, 2), (BOOT, 3, 3), (LATER, 1, 9)]);
        assert_eq!(spool.acknowledge(number(LATER, 1)), Settled { batches: 4, records: 1 });
        drop(spool);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "acknowledged segments are removed");
    }

    #[test]
    fn a_torn_end_costs_only_the_batch_that_was_being_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path(), BOOT, Bounds::default());
        spool.append(vec![record(1)]).unwrap();
        spool.append(vec![record(2)]).unwrap();
        drop(spool);
        let path = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
        let whole = fs::read(&path).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            seen.insert(open(directory.path(), LATER, Bounds::default()).len());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        let mut flipped = whole.clone();
        flipped[FRAME_HEAD + 2] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(open(directory.path(), LATER, Bounds::default()).len(), 0);
    }

    #[test]
    fn only_a_full_spool_refuses_and_an_acknowledgement_makes_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path(), BOOT, Bounds { disk: 400, segment: 100, memory: 100 });
        let taken = (0..20).take_while(|status| spool.append(vec![record(*status)]).is_ok()).count() as u64;
        assert!((4..20).contains(&taken), "{taken}");
        assert_eq!(spool.append(vec![record(99)]), Err(Full));
        assert!(spool.bytes() <= 500);
        assert_eq!(spool.acknowledge(number(BOOT, 3)).batches, 3);
        // What was refused had no number: the next one follows without a gap.
        assert_eq!(spool.append(vec![record(100)]), Ok(number(BOOT, taken + 1)));
        let numbers: Vec<_> = waiting(&mut spool).into_iter().map(|(_, seq, _)| seq).collect();
        assert_eq!(numbers, (4..=taken + 1).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_disk_batches_wait_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut spool = open(&file.path().join("below-a-file"), BOOT, Bounds::default());
        spool.append(vec![record(1)]).unwrap();
        assert_eq!(waiting(&mut spool), [(BOOT, 1, 1)]);
        assert_eq!(spool.acknowledge(number(BOOT, 1)), Settled { batches: 1, records: 1 });
        assert_eq!(spool.bytes(), 0);
    }

    #[test]
    fn an_acknowledgement_of_nothing_that_waits_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = open(directory.path(), BOOT, Bounds::default());
        spool.append(vec![record(1)]).unwrap();
        assert_eq!(spool.acknowledge(number(BOOT, 7)), Settled::default());
        assert_eq!(spool.acknowledge(number(LATER, 1)), Settled::default());
        assert_eq!(spool.len(), 1);
    }
}
