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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
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
        let stream = [message(b"head", b"{\"a\":1}"), message(b"", b""), message(b"x", b"z")].concat();
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
        splitter.feed(&message(b"", b"x"), |_| found += 1);
        assert_eq!(found, 0);
    }
}
