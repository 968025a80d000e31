//! Where the body of a request ends on the wire, so that the head behind it is found by ourselves. Stricter than hyper:
//! what passes here has one reading, and what does not is never a request.

/// What is still to come of a body.
#[derive(Debug)]
pub(super) enum Body {
    Sized(u64),
    Chunked(Chunks),
}

/// What a piece of input was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// So many bytes belong to the body.
    pub(super) taken: usize,
    pub(super) now: Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    Inside,
    Over,
    /// The next byte cannot be there.
    Broken,
}

impl Body {
    pub(super) fn sized(length: u64) -> Self {
        Self::Sized(length)
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks { at: At::Size, size: 0, digits: 0 })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Sized(0) | Self::Chunked(Chunks { at: At::Over, .. }))
    }

    /// Takes what belongs to the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Fed {
        let taken = match self {
            Self::Sized(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                taken
            }
            Self::Chunked(chunks) => match chunks.feed(bytes) {
                Ok(taken) => taken,
                Err(taken) => return Fed { taken, now: Now::Broken },
            },
        };
        Fed { taken, now: if self.is_over() { Now::Over } else { Now::Inside } }
    }
}

/// RFC 9112 section 7.1.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    /// Of the chunk; what is left of it.
    size: u64,
    digits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// Where a trailer, or the end, begins.
    Line,
    Trailer,
    TrailerEnd,
    LastEnd,
    Over,
}

/// Digits of a size: more than any chunk that is ever sent.
const DIGITS: u8 = 15;

impl Chunks {
    /// How many bytes belong to the body; `Err`: the one after them breaks it.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let mut index = 0;
        while let (Some(&byte), true) = (bytes.get(index), self.at != At::Over) {
            if self.at == At::Data {
                let step = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - index);
                self.size -= step as u64;
                index += step;
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            self.at = self.next(byte).ok_or(index)?;
            index += 1;
        }
        Ok(index)
    }

    fn next(&mut self, byte: u8) -> Option<At> {
        Some(match (self.at, byte) {
            (At::Size, byte) if byte.is_ascii_hexdigit() && self.digits < DIGITS => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                At::Size
            }
            (At::Size, b'\r') if self.digits > 0 => At::SizeEnd,
            (At::Size, b';') if self.digits > 0 => At::Extension,
            (At::Extension, b'\r') => At::SizeEnd,
            (At::Extension, byte) if byte != b'\n' => At::Extension,
            (At::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.size == 0 { At::Line } else { At::Data }
            }
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size,
            (At::Line, b'\r') => At::LastEnd,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::Line | At::Trailer, byte) if byte != b'\n' => At::Trailer,
            (At::TrailerEnd, b'\n') => At::Line,
            (At::LastEnd, b'\n') => At::Over,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes taken, and how it stands, however the input is cut.
    fn feed(mut body: impl FnMut() -> Body, input: &str) -> Fed {
        let whole = body().feed(input.as_bytes());
        for piece in 1..input.len().max(2) {
            let mut cut = body();
            let mut taken = 0;
            let mut now = Now::Inside;
            for piece in input.as_bytes().chunks(piece) {
                let fed = cut.feed(piece);
                taken += fed.taken;
                now = fed.now;
                if now != Now::Inside {
                    break;
                }
            }
            assert_eq!(Fed { taken, now }, whole, "{input:?} in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn a_sized_body_ends_where_it_says() {
        let sized = || Body::sized(5);
        assert_eq!(feed(sized, "hel"), Fed { taken: 3, now: Now::Inside });
        assert_eq!(feed(sized, "helloGET"), Fed { taken: 5, now: Now::Over });
        assert!(Body::sized(0).is_over());
    }

    #[test]
    fn a_chunked_body_ends_behind_its_trailers() {
        for (body, rest) in [
            ("0\r\n\r\n", "GET"),
            ("5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n"),
            ("00000A;a=\"b\"\r\n0\r\n\r\nGET /\r\n0;x\r\n\r\n", "x"),
            ("2\r\n\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\n", "\r\n"),
        ] {
            let fed = feed(Body::chunked, &format!("{body}{rest}"));
            assert_eq!(fed, Fed { taken: body.len(), now: Now::Over }, "{body:?}");
        }
        for (body, taken) in [
            ("\r\n", 0),
            (";\r\n", 0),
            ("g\r\n", 0),
            (" 5\r\n", 0),
            ("5 \r\n", 1),
            ("-5\r\n", 0),
            ("5\n", 1),
            ("5\rx", 2),
            ("5;a\n", 3),
            ("1\r\nab", 4),
            ("1\r\na\n", 4),
            ("1\r\na\rb", 5),
            ("0\r\n\n", 3),
            ("0\r\nA: b\n", 7),
            ("0\r\nA: b\rC", 8),
            ("0\r\n\rx", 4),
            ("1234567890abcdef\r\n", 15),
        ] {
            assert_eq!(feed(Body::chunked, body), Fed { taken, now: Now::Broken }, "{body:?}");
        }
    }
}
