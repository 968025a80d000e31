//! Splits a stream of server-sent events, fed in any pieces, into the data of each event. Bounded: nothing is kept but
//! a few bits.

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part of the event's data; lines are joined by a newline.
    Data(&'a [u8]),
    /// The event is complete.
    End,
}

/// The state between two pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    state: State,
    /// The last byte was a carriage return: a newline right behind it belongs to it.
    after_return: bool,
    /// The event has had a line of data.
    data: bool,
    /// Bytes of this event have been seen.
    begun: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// So many bytes of `data:` have matched at the start of a line.
    #[default]
    Start,
    Matched(u8),
    /// Behind the colon: one space does not count.
    Colon,
    Data,
    Other,
}

const FIELD: &[u8] = b"data:";

impl Splitter {
    /// Whether everything seen so far are complete events, so that another may be written behind it.
    pub fn at_boundary(&self) -> bool {
        !self.begun && self.state == State::Start
    }

    /// Takes the next piece.
    pub fn feed<'a>(&mut self, bytes: &'a [u8], mut sink: impl FnMut(Piece<'a>)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_return) && byte == b'\n' {
                rest = after;
                continue;
            }
            match self.state {
                State::Data | State::Other => {
                    let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    if self.state == State::Data && end > 0 {
                        sink(Piece::Data(&rest[..end]));
                    }
                    rest = &rest[end..];
                    if let Some((&byte, after)) = rest.split_first() {
                        rest = after;
                        self.line_end(byte);
                    }
                }
                State::Start if is_line_end(byte) => {
                    rest = after;
                    self.line_end(byte);
                    if std::mem::take(&mut self.data) {
                        sink(Piece::End);
                    }
                    self.begun = false;
                }
                State::Start => {
                    self.begun = true;
                    self.state = State::Matched(0);
                }
                State::Matched(matched) => {
                    let matched = usize::from(matched);
                    if is_line_end(byte) {
                        rest = after;
                        // A line that is just `data` is an empty line of data.
                        if matched == FIELD.len() - 1 {
                            self.begin_data(&mut sink);
                        }
                        self.line_end(byte);
                    } else if byte == FIELD[matched] {
                        rest = after;
                        if matched + 1 == FIELD.len() {
                            self.begin_data(&mut sink);
                            self.state = State::Colon;
                        } else {
                            self.state = State::Matched(u8::try_from(matched + 1).unwrap_or(0));
                        }
                    } else {
                        self.state = State::Other;
                    }
                }
                State::Colon => {
                    if byte == b' ' {
                        rest = after;
                    }
                    self.state = State::Data;
                }
            }
        }
    }

    fn begin_data<'a>(&mut self, sink: &mut impl FnMut(Piece<'a>)) {
        if self.data {
            sink(Piece::Data(b"\n"));
        }
        self.data = true;
    }

    fn line_end(&mut self, byte: u8) {
        self.after_return = byte == b'\r';
        self.state = State::Start;
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &str, piece: usize) -> Vec<String> {
        let mut splitter = Splitter::default();
        let (mut events, mut event) = (Vec::new(), Vec::new());
        for piece in stream.as_bytes().chunks(piece) {
            splitter.feed(piece, |piece| match piece {
                Piece::Data(data) => event.extend_from_slice(data),
                Piece::End => events.push(String::from_utf8(std::mem::take(&mut event)).unwrap()),
            });
        }
        events
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let stream = ": hello\n\nevent: a\ndata: {\"x\":1}\n\ndata:{\"y\":\ndata: 2}\r\n\r\ndata\rid: 7\r\rdata:  z\n\n\
            datax: no\ndat: no\n\ndata: [DONE]\n\ndata: cut";
        for piece in 1..stream.len() {
            let found = events(stream, piece);
            assert_eq!(found, ["{\"x\":1}", "{\"y\":\n2}", "", " z", "[DONE]"], "pieces of {piece}");
        }
    }

    #[test]
    fn the_boundary_is_known() {
        let mut splitter = Splitter::default();
        for (piece, boundary) in
            [("", true), ("da", false), ("ta: x", false), ("\n", false), ("\n", true), (":", false), ("\r\n\r\n", true)]
        {
            splitter.feed(piece.as_bytes(), |_| {});
            assert_eq!(splitter.at_boundary(), boundary, "{piece:?}");
        }
    }
}
