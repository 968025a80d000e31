//! Where WebSocket frames begin and end (RFC 6455 section 5.2). It tells a farewell from a break, where a frame of our own
//! fits between two of theirs, and which bytes are a message: what they say is for others.

/// The frames of one direction, as far as they have passed.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    closed: bool,
    /// Of the frame: its first byte, and whether it is masked.
    head: u8,
    masked: bool,
    /// The message that the frames belong to is compressed: nobody here can read it.
    compressed: bool,
}

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// A part of a message.
    Message(&'a [u8]),
    /// The message has ended.
    End,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Between two.
    #[default]
    Boundary,
    /// The first byte has been read.
    Length,
    /// So many bytes of a long length are to come, then so many of the mask.
    Extended { left: u8, mask: u8, length: u64 },
    /// So many bytes of the frame are to come.
    Rest(u64),
}

const CLOSE: u8 = 0x8;
const LAST: u8 = 0x80;
const COMPRESSED: u8 = 0x40;

impl Frames {
    /// These have passed. What they say is told as long as it is neither masked nor compressed.
    pub(super) fn hear<'a>(&mut self, mut bytes: &'a [u8], mut sink: impl FnMut(Part<'a>)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let State::Rest(left) = self.state {
                let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (heard, after) = bytes.split_at(passed);
                if self.is_readable() {
                    sink(Part::Message(heard));
                }
                bytes = after;
                self.state = rest_of(left - passed as u64);
                if matches!(self.state, State::Boundary) {
                    self.end(&mut sink);
                }
                continue;
            }
            bytes = rest;
            self.state = match self.state {
                State::Boundary => {
                    self.closed |= byte & 0xf == CLOSE;
                    self.head = byte;
                    // Said once, at the beginning of a message (RFC 7692 section 6).
                    if matches!(byte & 0xf, 1..8) {
                        self.compressed = byte & COMPRESSED != 0;
                    }
                    State::Length
                }
                State::Length => {
                    self.masked = byte & 0x80 != 0;
                    let mask = if self.masked { 4 } else { 0 };
                    match byte & 0x7f {
                        126 => State::Extended { left: 2, mask, length: 0 },
                        127 => State::Extended { left: 8, mask, length: 0 },
                        length => rest_of(u64::from(length) + u64::from(mask)),
                    }
                }
                State::Extended { left, mask, length } => {
                    let length = length << 8 | u64::from(byte);
                    match left {
                        1 => rest_of(length.saturating_add(mask.into())),
                        _ => State::Extended { left: left - 1, mask, length },
                    }
                }
                State::Rest(_) => self.state,
            };
            // A frame without a byte in it.
            if matches!(self.state, State::Boundary) {
                self.end(&mut sink);
            }
        }
    }

    /// Whether the frame is one of a message, in the clear.
    fn is_readable(&self) -> bool {
        self.head & 0xf < CLOSE && !self.masked && !self.compressed
    }

    fn end<'a>(&self, sink: &mut impl FnMut(Part<'a>)) {
        if self.head & LAST != 0 && self.is_readable() {
            sink(Part::End);
        }
    }

    /// Whether a frame may begin here.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.state, State::Boundary)
    }

    /// Whether this side has said farewell.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }
}

fn rest_of(left: u64) -> State {
    if left == 0 { State::Boundary } else { State::Rest(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..65536 => {
                frame.push(mask | 0x7e);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        // Bytes that would be a farewell if they were a head.
        frame.extend(std::iter::repeat_n(0x88, length));
        frame
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_cut() {
        let lengths = [0, 1, 125, 126, 127, 65535, 65536, 70000];
        for masked in [false, true] {
            let frames: Vec<Vec<u8>> = lengths.iter().map(|length| frame(2, masked, *length)).collect();
            let mut whole = frames.concat();
            let boundaries: Vec<usize> = frames
                .iter()
                .scan(0, |end, frame| {
                    *end += frame.len();
                    Some(*end)
                })
                .collect();
            for piece in [1, 2, 3, 7, 1000, 100_000] {
                let (mut seen, mut passed) = (Frames::default(), 0);
                for bytes in whole.chunks(piece) {
                    seen.hear(bytes, |_| {});
                    passed += bytes.len();
                    assert_eq!(seen.at_boundary(), boundaries.contains(&passed), "{passed} in pieces of {piece}");
                }
                assert!(!seen.closed());
            }
            whole.extend(frame(8, masked, 2));
            let mut seen = Frames::default();
            seen.hear(&whole, |_| {});
            assert!(seen.closed() && seen.at_boundary());
        }
    }

    #[test]
    fn messages_are_heard_whatever_their_frames() {
        let frame = |head: u8, text: &[u8]| [&[head, u8::try_from(text.len()).unwrap()][..], text].concat();
        let stream = [
            frame(0x81, b"one"),
            frame(0x01, b"t"),
            // A ping between two frames of a message is no part of it.
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"wo"),
            frame(0xc1, b"compressed"),
            vec![0x81, 0x82, 0, 0, 0, 0, b'm', b'm'],
            frame(0x82, b"three"),
            frame(0x81, b""),
        ]
        .concat();
        for piece in 1..stream.len() {
            let (mut seen, mut messages, mut message) = (Frames::default(), Vec::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                seen.hear(bytes, |part| match part {
                    Part::Message(bytes) => message.extend_from_slice(bytes),
                    Part::End => messages.push(String::from_utf8(std::mem::take(&mut message)).unwrap()),
                });
            }
            assert_eq!(messages, ["one", "two", "three", ""], "pieces of {piece}");
        }
    }

    #[test]
    fn a_length_beyond_reason_is_only_a_long_frame() {
        let mut seen = Frames::default();
        seen.hear(&[0x82, 0xff], |_| {});
        seen.hear(&[0xff; 8], |_| {});
        seen.hear(&[0; 1000], |_| {});
        assert!(!seen.at_boundary() && !seen.closed());
    }
}
