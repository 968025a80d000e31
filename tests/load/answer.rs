//! Reads an answer as it comes, at next to no cost: where it ends, and how much of it is body. It looks at no more of
//! an answer than that takes, but at that exactly: an answer that was cut or garbled is an error, not a fast answer.

use anyhow::{bail, ensure};

/// An answer under way.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    state: State,
    /// Bytes of the body so far, without their framing.
    pub(crate) body: usize,
}

#[derive(Debug, Default)]
enum State {
    /// What there is of the head, if it came in pieces.
    #[default]
    Start,
    Head(Vec<u8>),
    Sized {
        left: usize,
    },
    /// In the digits of a chunk's size.
    Size {
        value: usize,
        digits: bool,
    },
    /// In the chunk, the line end behind it included.
    Chunk {
        left: usize,
    },
    /// Behind the empty chunk: the line ends that are still to come.
    Last {
        left: usize,
    },
    Done,
}

impl Answer {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes what has been read.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Start => {
                    let (next, rest) = match head_end(bytes) {
                        Some(end) => (begin(&bytes[..end])?, &bytes[end..]),
                        None => (State::Head(bytes.to_vec()), &[][..]),
                    };
                    self.state = next;
                    rest
                }
                State::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(bytes);
                    match head_end(head) {
                        Some(end) => {
                            let next = begin(&head[..end])?;
                            self.state = next;
                            &bytes[end - before..]
                        }
                        None => &[],
                    }
                }
                State::Sized { left } => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    self.body += taken;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    &bytes[taken..]
                }
                State::Size { value, digits } => {
                    match (bytes[0] as char).to_digit(16) {
                        Some(digit) => {
                            *value = (*value << 4) | digit as usize;
                            *digits = true;
                        }
                        None if bytes[0] == b'\r' && *digits => {}
                        None if bytes[0] == b'\n' && *digits => {
                            self.state =
                                if *value == 0 { State::Last { left: 2 } } else { State::Chunk { left: *value + 2 } };
                        }
                        None => bail!("not the size of a chunk: {:?}", bytes[0] as char),
                    }
                    &bytes[1..]
                }
                State::Chunk { left } => {
                    let taken = bytes.len().min(*left);
                    // The last two are the line end.
                    self.body += taken.min(left.saturating_sub(2));
                    *left -= taken;
                    if *left == 0 {
                        self.state = State::Size { value: 0, digits: false };
                    }
                    &bytes[taken..]
                }
                State::Last { left } => {
                    ensure!(bytes[0] == b'\r' || bytes[0] == b'\n', "trailers, or no end");
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    &bytes[1..]
                }
                State::Done => bail!("{} bytes behind the end of an answer", bytes.len()),
            };
        }
        Ok(())
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

fn begin(head: &[u8]) -> anyhow::Result<State> {
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "not an answer: {}", String::from_utf8_lossy(head));
    if let Some(length) = header(head, b"content-length:") {
        let left = std::str::from_utf8(length)?.trim().parse()?;
        return Ok(if left == 0 { State::Done } else { State::Sized { left } });
    }
    ensure!(header(head, b"transfer-encoding:").is_some(), "an answer without an end");
    Ok(State::Size { value: 0, digits: false })
}

/// The value of the first field of this name, which is lower case and ends with the colon.
pub(crate) fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = head;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        rest = &rest[at + 1..];
        if rest.len() > name.len() && rest[..name.len()].eq_ignore_ascii_case(name) {
            let line = &rest[name.len()..];
            return Some(&line[..memchr::memchr(b'\r', line).unwrap_or(line.len())]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";

    #[test]
    fn an_answer_ends_where_it_ends_however_it_was_cut() {
        for (text, length) in [(SIZED, 5), (CHUNKED, 31)] {
            for size in 1..=text.len() {
                let mut answer = Answer::default();
                let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
                for (number, piece) in pieces.iter().enumerate() {
                    answer.take(piece).unwrap();
                    assert_eq!(answer.is_done(), number + 1 == pieces.len(), "{size} of {text}");
                }
                assert_eq!(answer.body, length, "{size} of {text}");
            }
        }
    }

    #[test]
    fn what_is_no_good_answer_is_an_error() {
        for text in [
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz".to_owned(),
            format!("{SIZED}!"),
        ] {
            assert!(Answer::default().take(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_body_is_a_whole_one() {
        let mut answer = Answer::default();
        answer.take(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert!(answer.is_done());
    }
}
