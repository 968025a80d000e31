//! Splits Amazon's event-stream framing, fed in any pieces, into the payload of each message. Checksums are the
//! client's business: here a message that lies about its lengths only ends the reading.

/// Prelude: total length, length of the headers, checksum of both.
const PRELUDE: usize = 12;
/// Behind the payload: checksum of the message.
const TRAILER: u32 = 4;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part of the payload.
    Data(&'a [u8]),
    /// The message is complete.
    End,
}

/// The state between two pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    prelude: [u8; PRELUDE],
    filled: usize,
    headers: u32,
    payload: u32,
    trailer: u32,
    lost: bool,
}

impl Splitter {
    /// Whether everything seen so far are complete messages.
    pub fn at_boundary(&self) -> bool {
        self.filled == 0 && !self.lost
    }

    /// Takes the next piece.
    pub fn feed<'a>(&mut self, bytes: &'a [u8], mut sink: impl FnMut(Piece<'a>)) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.lost {
            if self.filled < PRELUDE {
                let (taken, after) = rest.split_at(rest.len().min(PRELUDE - self.filled));
                self.prelude[self.filled..self.filled + taken.len()].copy_from_slice(taken);
                self.filled += taken.len();
                rest = after;
                if self.filled == PRELUDE {
                    self.lost = self.begin().is_none();
                }
                continue;
            }
            for (left, is_payload) in
                [(&mut self.headers, false), (&mut self.payload, true), (&mut self.trailer, false)]
            {
                let length = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let (taken, after) = rest.split_at(length);
                *left -= u32::try_from(length).unwrap_or(*left);
                if is_payload && !taken.is_empty() {
                    sink(Piece::Data(taken));
                }
                rest = after;
            }
            if self.headers + self.payload + self.trailer == 0 {
                self.filled = 0;
                sink(Piece::End);
            }
        }
    }

    fn begin(&mut self) -> Option<()> {
        let (total, rest) = self.prelude.split_first_chunk()?;
        let total = u32::from_be_bytes(*total);
        self.headers = u32::from_be_bytes(*rest.first_chunk()?);
        let around = u32::try_from(PRELUDE).ok()?.checked_add(TRAILER)?.checked_add(self.headers)?;
        self.payload = total.checked_sub(around)?;
        self.trailer = TRAILER;
        Some(())
    }
}

/// A whole message with headers that are strings; `None`: it is longer than a message can be.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Option<Vec<u8>> {
    /// Of a header: its value is a string.
    const STRING: u8 = 7;
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).ok()?);
        head.extend_from_slice(name.as_bytes());
        head.push(STRING);
        head.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let total = PRELUDE + head.len() + payload.len() + usize::try_from(TRAILER).ok()?;
    let mut bytes = u32::try_from(total).ok()?.to_be_bytes().to_vec();
    bytes.extend_from_slice(&u32::try_from(head.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let total = u32::try_from(PRELUDE + headers.len() + payload.len() + 4).unwrap();
        let mut bytes = total.to_be_bytes().to_vec();
        bytes.extend_from_slice(&u32::try_from(headers.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    #[test]
    fn payloads_are_the_same_however_the_bytes_are_cut() {
        let stream = [framed(b"head", b"{\"a\":1}"), framed(b"", b""), framed(b"x", b"z")].concat();
        for piece in 1..stream.len() {
            let mut splitter = Splitter::default();
            let (mut messages, mut payload) = (Vec::new(), Vec::new());
            for piece in stream.chunks(piece) {
                splitter.feed(piece, |piece| match piece {
                    Piece::Data(data) => payload.extend_from_slice(data),
                    Piece::End => messages.push(std::mem::take(&mut payload)),
                });
            }
            assert_eq!(messages, [b"{\"a\":1}".to_vec(), Vec::new(), b"z".to_vec()], "pieces of {piece}");
        }
    }

    #[test]
    fn a_lie_about_lengths_ends_the_reading() {
        let mut splitter = Splitter::default();
        let mut found = 0;
        splitter.feed(&[0, 0, 0, 1, 255, 255, 255, 255, 0, 0, 0, 0, 1, 2, 3], |_| found += 1);
        splitter.feed(&framed(b"", b"x"), |_| found += 1);
        assert_eq!(found, 0);
    }

    #[test]
    fn an_end_between_two_messages_is_told_from_one_within() {
        let whole = message(&[(":message-type", "event")], b"{}").unwrap();
        for length in 0..=whole.len() {
            let mut splitter = Splitter::default();
            splitter.feed(&whole[..length], |_| ());
            assert_eq!(splitter.at_boundary(), length == 0 || length == whole.len(), "after {length}");
        }
    }

    #[test]
    fn a_message_is_framed_as_amazon_frames_it() {
        let bytes = message(&[(":message-type", "exception")], b"{}").unwrap();
        assert_eq!(bytes.len(), 12 + 1 + 13 + 3 + 9 + 2 + 4);
        assert_eq!(bytes[..8], [0, 0, 0, 44, 0, 0, 0, 26]);
        assert_eq!(bytes[8..12], crc32fast::hash(&bytes[..8]).to_be_bytes());
        assert_eq!(&bytes[12..38], b"\x0d:message-type\x07\0\x09exception");
        assert_eq!(bytes[40..], crc32fast::hash(&bytes[..40]).to_be_bytes());
        assert_eq!(message(&[("x", &"y".repeat(70_000))], b""), None);
    }
}
