//! A client that is as dumb as the vendor: it writes bytes in any pieces, reads answers one behind the other, and
//! knows nothing of what they mean.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, split};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// How a client leaves before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It says nothing more and still listens.
    Silent,
    /// It is gone.
    Gone,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(super) struct Conduct {
    /// One after the other, or waiting for each answer.
    pub(super) pipelined: bool,
    /// Lengths of the pieces it writes, over and over.
    pub(super) pieces: Vec<usize>,
    /// It leaves after so much of 1000 of its bytes.
    pub(super) leaves: Option<(u16, Leaving)>,
    /// Bytes that the connection holds.
    pub(super) buffer: usize,
}

/// One answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// It came to the end that it announced.
    pub(super) whole: bool,
}

impl Reply {
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn closes(&self) -> bool {
        self.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What a client has been told.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) replies: Vec<Reply>,
    /// Behind the last answer, or no answer.
    pub(super) rest: Vec<u8>,
    /// The last answer said that it is the last.
    pub(super) closed: bool,
    /// It wrote all it had.
    pub(super) wrote: bool,
}

/// Sends the requests (with whether each is a `HEAD`) and hears the answers.
pub(super) async fn converse(stream: DuplexStream, requests: Vec<(Vec<u8>, bool)>, conduct: Conduct) -> Heard {
    let (mut reading, mut writing) = split(stream);
    let turns = Arc::new(Semaphore::new(if conduct.pipelined { requests.len() } else { 1 }));
    let total: usize = requests.iter().map(|(bytes, _)| bytes.len()).sum();
    let leaves = conduct.leaves.map(|(after, how)| (total * usize::from(after) / 1000, how));
    let heads: Vec<bool> = requests.iter().map(|(_, head)| *head).collect();
    let write = {
        let turns = Arc::clone(&turns);
        async move {
            let mut left = leaves.map_or(usize::MAX, |(after, _)| after);
            let mut lengths = conduct.pieces.iter().copied().cycle();
            for (bytes, _) in &requests {
                // Closed: the connection is over.
                let Ok(turn) = turns.acquire().await else { return (writing, false) };
                turn.forget();
                let mut rest = &bytes[..];
                while !rest.is_empty() && left > 0 {
                    let length = lengths.next().unwrap_or(rest.len()).clamp(1, rest.len().min(left));
                    if writing.write_all(&rest[..length]).await.is_err() {
                        return (writing, false);
                    }
                    (rest, left) = (&rest[length..], left - length);
                    yield_now().await;
                }
                if left == 0 {
                    break;
                }
            }
            (writing, leaves.is_none())
        }
    };
    let read = async {
        let mut heard = Heard::default();
        let mut buffer = Vec::new();
        let mut over = false;
        for head in heads {
            let reply = loop {
                match parse(&buffer, head, over) {
                    Some((reply, length)) => {
                        buffer.drain(..length);
                        break Some(reply);
                    }
                    None if over => break None,
                    None => over = !matches!(reading.read_buf(&mut buffer).await, Ok(1..)),
                }
            };
            let Some(reply) = reply else { break };
            let last = !reply.whole || reply.closes();
            heard.replies.push(reply);
            turns.add_permits(1);
            if last {
                heard.closed = true;
                break;
            }
        }
        turns.close();
        heard.rest = buffer;
        (reading, heard)
    };
    let gone = leaves.is_some_and(|(_, how)| how == Leaving::Gone);
    if gone {
        // It listens as long as it speaks, and not a moment longer.
        tokio::pin!(read);
        tokio::select! {
            biased;
            _ = write => {}
            _ = &mut read => {}
        }
        return Heard::default();
    }
    // What was written to the end is known only if the connection did not end before.
    let write = async {
        let (mut writing, wrote) = write.await;
        let _ = if leaves.is_some() { writing.shutdown().await } else { Ok(()) };
        (writing, wrote)
    };
    let ((mut writing, wrote), (mut reading, mut heard)) = tokio::join!(write, read);
    let _ = writing.shutdown().await;
    while matches!(reading.read_buf(&mut heard.rest).await, Ok(1..)) {}
    heard.wrote = wrote;
    heard
}

/// The answer at the front, and its length; `None`: not all of it is there.
fn parse(bytes: &[u8], head_only: bool, over: bool) -> Option<(Reply, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    if (100..200).contains(&status) {
        let (reply, length) = parse(&bytes[end..], head_only, over)?;
        return Some((reply, end + length));
    }
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status, fields, ..Reply::default() };
    let rest = &bytes[end..];
    let (body, length, whole) = if head_only || matches!(status, 204 | 304) {
        (Vec::new(), 0, true)
    } else if reply.value("transfer-encoding").is_some() {
        chunks(rest, over)?
    } else if let Some(length) = reply.value("content-length") {
        let length: usize = length.parse().ok()?;
        let there = length.min(rest.len());
        if there < length && !over {
            return None;
        }
        (rest[..there].to_vec(), there, there == length)
    } else if over {
        (rest.to_vec(), rest.len(), true)
    } else {
        return None;
    };
    (reply.body, reply.whole) = (body, whole);
    Some((reply, end + length))
}

fn chunks(bytes: &[u8], over: bool) -> Option<(Vec<u8>, usize, bool)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let line = rest.windows(2).position(|pair| pair == b"\r\n");
        let size = line.and_then(|end| usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok());
        let data = line.map_or(rest.len(), |end| end + 2);
        match size {
            Some(0) => {
                if rest.len() >= data + 2 {
                    return Some((body, at + data + 2, true));
                }
                return over.then_some((body, bytes.len(), false));
            }
            Some(size) if rest.len() >= data + size + 2 => {
                body.extend_from_slice(&rest[data..data + size]);
                at += data + size + 2;
            }
            Some(size) => {
                body.extend_from_slice(&rest[data..rest.len().min(data + size)]);
                return over.then_some((body, bytes.len(), false));
            }
            None => return over.then_some((body, bytes.len(), false)),
        }
    }
}
