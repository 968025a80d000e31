//! What vendors say: whole and cut, sized, chunked or until they close, early, and with words nobody asked for.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::task::yield_now;

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sized,
    Chunked,
    UntilClose,
}

/// The script of one answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Sent before the body of the request is read.
    pub(super) early: bool,
    /// Interim answers before the real one.
    interim: usize,
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) events: bool,
    pieces: Vec<Bytes>,
    /// Of the bytes, so much of 1000 is sent before the connection ends.
    cut: Option<u16>,
    /// The connection ends behind it.
    close: bool,
    /// Something follows that nobody asked for.
    extra: bool,
    /// How often others run between two pieces.
    yields: usize,
}

/// What a client must see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The head did not come.
    Nothing,
    /// The head came, and the body until here, which is not its end.
    Half(Vec<u8>),
    /// All of it.
    Whole(Vec<u8>),
}

const EXTRA: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-Poison: 1\r\n\r\npoisoned";

impl Answer {
    pub(super) fn any() -> impl Strategy<Value = Self> {
        let status = prop_oneof![
            6 => Just(200_u16),
            1 => prop::sample::select(vec![201, 204, 206, 301, 304, 400, 401, 404, 422, 429, 500, 503]),
        ];
        let framing = prop::sample::select(vec![Framing::Sized, Framing::Chunked, Framing::UntilClose]);
        let piece = prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 1..200),
            1 => Just(b"data: {\"x\":1}\n\n".to_vec()),
            1 => Just(b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned".to_vec()),
            1 => (1_usize..2000).prop_map(|length| vec![b'x'; length]),
        ];
        let ends = (prop::option::weighted(0.25, 0..1000_u16), prop::bool::weighted(0.2), prop::bool::weighted(0.1));
        (
            prop::bool::weighted(0.15),
            prop_oneof![5 => Just(0_usize), 1 => 1..3_usize],
            status,
            framing,
            prop::bool::weighted(0.4),
            prop::collection::vec(piece.prop_map(Bytes::from), 0..4),
            ends,
            0..3_usize,
        )
            .prop_map(|(early, interim, status, framing, events, pieces, (cut, close, extra), yields)| Self {
                early,
                interim,
                status,
                framing,
                events,
                pieces,
                cut,
                close,
                extra: extra && framing != Framing::UntilClose && cut.is_none(),
                yields,
            })
    }

    /// Often one that has another attempt follow.
    pub(super) fn troubled() -> impl Strategy<Value = Self> {
        let status = prop::option::weighted(0.6, prop::sample::select(vec![401, 429, 500, 502, 503, 504, 520, 529]));
        let cut = prop::option::weighted(0.15, 0..30_u16);
        (Self::any(), status, cut).prop_map(|(answer, status, cut)| Self {
            status: status.unwrap_or(answer.status),
            extra: answer.extra && cut.is_none(),
            cut: cut.or(answer.cut),
            ..answer
        })
    }

    /// Whether another attempt follows if one can.
    pub(super) fn is_trouble(&self, method: &str) -> bool {
        const AGAIN: [u16; 8] = [401, 429, 500, 502, 503, 504, 520, 529];
        self.told(method) == Told::Nothing || AGAIN.contains(&self.status)
    }

    fn has_body(&self, method: &str) -> bool {
        method != "HEAD" && !matches!(self.status, 204 | 304)
    }

    fn body(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    fn head(&self, method: &str) -> Vec<u8> {
        let mut head = "HTTP/1.1 103 Early Hints\r\nX-Hint: 1\r\n\r\n".repeat(self.interim);
        write!(head, "HTTP/1.1 {} So Be It\r\n", self.status).unwrap();
        head += if self.events { "Content-Type: text/event-stream\r\n" } else { "Content-Type: text/plain\r\n" };
        head += "Set-Cookie: vendor=1\r\nX-Vendor: v\r\n";
        match self.framing {
            Framing::Sized if self.status != 204 => {
                write!(head, "Content-Length: {}\r\n", self.body().len()).unwrap();
            }
            Framing::Chunked if self.has_body(method) => head += "Transfer-Encoding: chunked\r\n",
            Framing::Sized | Framing::Chunked | Framing::UntilClose => {}
        }
        if self.close || self.framing == Framing::UntilClose {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        head.into_bytes()
    }

    /// The writes it is made of.
    fn writes(&self, method: &str) -> Vec<Vec<u8>> {
        let mut writes = vec![self.head(method)];
        if self.has_body(method) {
            for piece in &self.pieces {
                writes.push(match self.framing {
                    Framing::Chunked => [format!("{:x}\r\n", piece.len()).as_bytes(), &**piece, b"\r\n"].concat(),
                    Framing::Sized | Framing::UntilClose => piece.to_vec(),
                });
            }
            if self.framing == Framing::Chunked {
                writes.push(b"0\r\n\r\n".to_vec());
            }
        }
        writes
    }

    /// Bytes before the cut; `None`: all.
    fn cut_at(&self, method: &str) -> Option<usize> {
        let length = self.writes(method).concat().len();
        self.cut.map(|cut| length * usize::from(cut) / 1000).filter(|at| *at < length)
    }

    /// Says it. Whether the connection goes on.
    pub(super) async fn play(&self, stream: &mut DuplexStream, method: &str) -> bool {
        let mut writes = self.writes(method);
        if self.extra {
            // In one write with the end of the answer: said later, it could not be told from an answer.
            let last = writes.pop().unwrap_or_default();
            writes.push([&last, EXTRA].concat());
        }
        let mut left = self.cut_at(method).unwrap_or(usize::MAX);
        for bytes in writes {
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            if stream.write_all(bytes).await.is_err() {
                return false;
            }
            for _ in 0..self.yields {
                yield_now().await;
            }
        }
        self.cut_at(method).is_none() && !self.close && !self.extra && self.framing != Framing::UntilClose
    }

    /// What of it must arrive.
    pub(super) fn told(&self, method: &str) -> Told {
        let Some(at) = self.cut_at(method) else {
            return Told::Whole(if self.has_body(method) { self.body() } else { Vec::new() });
        };
        let head = self.head(method).len();
        if at < head {
            return Told::Nothing;
        }
        let mut body = Vec::new();
        let mut left = at - head;
        for (piece, framed) in self.pieces.iter().zip(&self.writes(method)[1..]) {
            let before = match self.framing {
                Framing::Chunked => framed.len() - piece.len() - 2,
                Framing::Sized | Framing::UntilClose => 0,
            };
            body.extend_from_slice(&piece[..left.saturating_sub(before).min(piece.len())]);
            left = left.saturating_sub(framed.len());
        }
        // Who announced no length has said all there is.
        if self.framing == Framing::UntilClose { Told::Whole(body) } else { Told::Half(body) }
    }
}
