//! What earlier processes left in the spool. A frame that a disk gave back damaged costs itself and nothing after it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use memchr::memmem;
use prost::Message as _;
use proto::usage::UsageBatch;
use uuid::Uuid;

use super::{EXTENSION, FRAME_HEAD, Number, Place, Segment, Spool, Waiting};

impl Spool {
    pub(super) fn recover(&mut self) -> io::Result<()> {
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
        let (mut offset, mut count) = (0, 0);
        // Records in batches up to the last one that was read, as its process counted them.
        let mut told = None;
        while let Some((start, length, batch)) = next_frame(&content, offset, &path) {
            let counted = batch.books.as_ref().map(|books| books.records);
            if start > offset {
                let between = counted.zip(told).map(|(counted, told): (u64, u64)| counted.saturating_sub(told));
                self.report_damaged(&path, start - offset, between.unwrap_or(0), batch.records.len() as u64);
            }
            if let Ok(boot) = Uuid::from_slice(&batch.boot) {
                let place = Place::Disk { segment: id, offset: (start + FRAME_HEAD) as u64, length };
                let (number, records) = (Number { boot, seq: batch.seq }, batch.records.len() as u64);
                self.waiting.push_back(Waiting { number, records, place, open: Vec::new() });
                count += 1;
            }
            told = counted;
            offset = start + FRAME_HEAD + length as usize;
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

    /// `told`: what the next whole batch says was put into batches since the last one, itself included; 0: unknown.
    fn report_damaged(&mut self, path: &Path, bytes: usize, told: u64, next: u64) {
        // At least one batch of at least one record.
        let records = told.saturating_sub(next).max(1);
        self.damaged += records;
        tracing::error!(file = %path.display(), bytes, records,
            "a part of a usage segment is damaged; its records are lost, those after it are not");
    }
}

/// A crash tears off at most the batch that was being written, which no one was promised.
fn report_torn(path: &Path, bytes: usize) {
    tracing::warn!(file = %path.display(), bytes, "the end of a usage segment is torn; using what is before it");
}

/// The next whole frame at `from` or behind what is damaged there: where it begins, and how long its batch is.
fn next_frame(content: &[u8], from: usize, path: &Path) -> Option<(usize, u32, UsageBatch)> {
    if let Some((length, batch)) = frame_at(&content[from..]) {
        return Some((from, length, batch));
    }
    // The second field of every batch is its boot, which the file is named after. The first is the node's name: a tag, a
    // length of one byte or two, and so many bytes.
    let boot = path.file_stem()?.to_str()?.split('-').next().and_then(|boot| Uuid::try_parse(boot).ok())?;
    let mark = [&[0x12, 16], &boot.as_bytes()[..]].concat();
    for found in memmem::find_iter(&content[from..], &mark) {
        let boot_at = from + found;
        let starts = (0..=512).filter_map(|name| boot_at.checked_sub(FRAME_HEAD + name)).filter(|start| *start >= from);
        let begins = |start: &usize| content[start + FRAME_HEAD] == 0x0a || start + FRAME_HEAD == boot_at;
        for start in starts.filter(begins) {
            if let Some((length, batch)) = frame_at(&content[start..]) {
                return Some((start, length, batch));
            }
        }
    }
    None
}

pub(super) fn frame_at(bytes: &[u8]) -> Option<(u32, UsageBatch)> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let encoded = rest.get(..length as usize)?;
    let sound = length > 0 && crc32fast::hash(encoded) == sum;
    sound.then(|| UsageBatch::decode(encoded).ok()).flatten().map(|batch| (length, batch))
}
