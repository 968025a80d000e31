//! Where WebSocket frames begin and end (RFC 6455 section 5.2), from their heads alone: what they say is not looked at.
//! It tells a farewell from a break, and where a frame of our own fits between two of theirs.

/// The frames of one direction, as far as they have passed.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    closed: bool,
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

impl Frames {
    /// These have passed.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let State::Rest(left) = self.state {
                let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[passed..];
                self.state = rest_of(left - passed as u64);
                continue;
            }
            bytes = rest;
            self.state = match self.state {
                State::Boundary => {
                    self.closed |= byte & 0xf == CLOSE;
                    State::Length
                }
                State::Length => {
                    let mask = if byte & 0x80 == 0 { 0 } else { 4 };
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
                    seen.feed(bytes);
                    passed += bytes.len();
                    assert_eq!(seen.at_boundary(), boundaries.contains(&passed), "{passed} in pieces of {piece}");
                }
                assert!(!seen.closed());
            }
            whole.extend(frame(8, masked, 2));
            let mut seen = Frames::default();
            seen.feed(&whole);
            assert!(seen.closed() && seen.at_boundary());
        }
    }

    #[test]
    fn a_length_beyond_reason_is_only_a_long_frame() {
        let mut seen = Frames::default();
        seen.feed(&[0x82, 0xff]);
        seen.feed(&[0xff; 8]);
        seen.feed(&[0; 1000]);
        assert!(!seen.at_boundary() && !seen.closed());
    }
}
