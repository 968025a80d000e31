//! A vendor that costs next to nothing: the same bytes for every request. What it does is written in the path:
//!
//! | path ends in | answer |
//! |---|---|
//! | `/v1/chat/completions` | 1.2 KB of JSON with usage |
//! | `/v1/answer/N` | N bytes of JSON |
//! | `/v1/wait/MS` | as the first, but the request's body is not read for so long |
//! | `/v1/pieces/N/US` | an event stream of N pieces, one every so many microseconds; 0: as fast as they are taken |

use std::{sync::LazyLock, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior},
};

use crate::{answer::header, process};

/// Bytes of the body of an answer that is not streamed.
pub(crate) const WHOLE: usize = 1_200;
/// Bytes of one piece of a stream.
pub(crate) const PIECE: usize = 224;

static ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let body = |text: &str| {
        format!(
            "{{\"id\":\"chatcmpl-load\",\"object\":\"chat.completion\",\"created\":1700000000,\
             \"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
             \"content\":\"{text}\",\"refusal\":null}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\
             \"usage\":{{\"prompt_tokens\":211,\"completion_tokens\":190,\"total_tokens\":401,\
             \"prompt_tokens_details\":{{\"cached_tokens\":0}},\
             \"completion_tokens_details\":{{\"reasoning_tokens\":0}}}}}}"
        )
    };
    let body = body(&"x".repeat(WHOLE - body("").len()));
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {WHOLE}\r\n\r\n{body}").into_bytes()
});

/// Around the text of a large answer.
const BEFORE: &str = r#"{"model":"gpt-4o-2024-08-06","data":[{"b64_json":""#;
const AFTER: &str = r#""}],"usage":{"input_tokens":50,"output_tokens":4160,"total_tokens":4210}}"#;
static FILLER: [u8; 64 << 10] = [b'x'; 64 << 10];

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
      transfer-encoding: chunked\r\n\r\n";

/// One chunk with one event.
static EVENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let event = |text: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-load\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"gpt-4o-2024-08-06\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\
             \"finish_reason\":null}}]}}\n\n"
        )
    };
    let event = event(&"x".repeat(PIECE - event("").len()));
    format!("{PIECE:x}\r\n{event}\r\n").into_bytes()
});

/// Serves until its input is closed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Err(error) = converse(stream).await {
                    eprintln!("upstream: {error:#}");
                }
            });
        }
    };
    tokio::select! {
        () = process::until_left_alone() => {}
        () = accepting => {}
    }
    Ok(())
}

async fn converse(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            buffer.reserve(16 << 10);
            // A reset is how a pool closes its connections, too.
            if !stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                return Ok(());
            }
        };
        let head = buffer.split_to(end);
        let plan = Plan::read(&head)?;
        if let Kind::Wait { pause } = plan.kind {
            tokio::time::sleep(pause).await;
        }
        let mut left = plan.length;
        loop {
            let taken = left.min(buffer.len());
            drop(buffer.split_to(taken));
            left -= taken;
            if left == 0 {
                break;
            }
            buffer.reserve(64 << 10);
            if !stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                return Ok(());
            }
        }
        if plan.answer(&mut stream).await.is_err() {
            return Ok(());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Of the request's body.
    length: usize,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Wait { pause: Duration },
    Sized { length: usize },
    Pieces { count: usize, gap: Duration },
}

impl Plan {
    fn read(head: &[u8]) -> anyhow::Result<Self> {
        ensure!(header(head, b"transfer-encoding:").is_none(), "a sized body became a chunked one");
        let length = match header(head, b"content-length:") {
            Some(length) => std::str::from_utf8(length)?.trim().parse()?,
            None => 0,
        };
        let target = head.split(|byte| *byte == b' ').nth(1).context("a target")?;
        let kind = if target.ends_with(b"/v1/chat/completions") {
            Kind::Whole
        } else {
            let target = std::str::from_utf8(target)?;
            let (_, wish) = target.split_once("/v1/").context("a path with a version")?;
            let numbers = |text: &str| {
                text.split('/').map(|part| part.parse::<u64>().context("a number")).collect::<Result<_, _>>()
            };
            let (name, numbers): (_, Vec<u64>) = match wish.split_once('/') {
                Some((name, rest)) => (name, numbers(rest)?),
                None => (wish, Vec::new()),
            };
            match (name, numbers.as_slice()) {
                ("wait", [pause]) => Kind::Wait { pause: Duration::from_millis(*pause) },
                ("answer", [length]) => Kind::Sized { length: usize::try_from(*length)? },
                ("pieces", [count, gap]) => {
                    Kind::Pieces { count: usize::try_from(*count)?, gap: Duration::from_micros(*gap) }
                }
                _ => anyhow::bail!("no such path: {target}"),
            }
        };
        Ok(Self { length, kind })
    }

    async fn answer(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        match self.kind {
            Kind::Whole | Kind::Wait { pause: _ } => stream.write_all(&ANSWER).await,
            Kind::Sized { length } => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BEFORE}"
                );
                stream.write_all(head.as_bytes()).await?;
                let mut left = length.saturating_sub(BEFORE.len() + AFTER.len());
                while left > 0 {
                    let piece = left.min(FILLER.len());
                    stream.write_all(&FILLER[..piece]).await?;
                    left -= piece;
                }
                stream.write_all(AFTER.as_bytes()).await
            }
            Kind::Pieces { count, gap } => {
                stream.write_all(STREAM_HEAD).await?;
                // The first one goes with the head, whatever the pace.
                let start = Instant::now() + gap;
                let mut pace = tokio::time::interval_at(start, gap.max(Duration::from_millis(1)));
                pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
                for number in 0..count {
                    if number > 0 && !gap.is_zero() {
                        pace.tick().await;
                    }
                    stream.write_all(&EVENT).await?;
                }
                stream.write_all(b"0\r\n\r\n").await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_has_the_sizes_that_are_counted() {
        let body = memchr::memmem::find(&ANSWER, b"\r\n\r\n").unwrap() + 4;
        assert_eq!(ANSWER.len() - body, WHOLE);
        serde_json::from_slice::<serde_json::Value>(&ANSWER[body..]).unwrap();
        let mut answer = crate::answer::Answer::default();
        for piece in [STREAM_HEAD, &EVENT, &EVENT, b"0\r\n\r\n"] {
            answer.take(piece).unwrap();
        }
        assert_eq!((answer.is_done(), answer.body), (true, 2 * PIECE));
    }

    #[test]
    fn the_path_says_what_is_answered() {
        let read = |path: &str| Plan::read(format!("POST {path} HTTP/1.1\r\nContent-Length: 7\r\n\r\n").as_bytes());
        let plan = |kind| Plan { length: 7, kind };
        assert_eq!(read("/x/v1/chat/completions").unwrap(), plan(Kind::Whole));
        let (count, gap) = (3, Duration::from_millis(10));
        assert_eq!(read("/v1/pieces/3/10000").unwrap(), plan(Kind::Pieces { count, gap }));
        assert_eq!(read("/v1/answer/70000").unwrap(), plan(Kind::Sized { length: 70_000 }));
        assert_eq!(read("/v1/wait/5").unwrap(), plan(Kind::Wait { pause: Duration::from_millis(5) }));
        assert!(read("/v1/other").is_err());
        assert!(read("/v1/pieces/3").is_err());
    }
}
