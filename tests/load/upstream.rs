//! A vendor that costs next to nothing: the same bytes for every request, without looking at more of it than its end.

use std::sync::LazyLock;

use bytes::BytesMut;
use tests::Vendor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Events of a streamed answer, each a chunk and a write of its own.
const EVENTS: usize = 30;

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let body = Vendor::OpenAi.chat_answer().to_string();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
});

static STREAM: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
    let events = Vendor::OpenAi.chat_events(false);
    let mut pieces =
        vec![b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()];
    pieces.extend((0..EVENTS).map(|_| chunk(&events[1])));
    pieces.push(chunk("data: [DONE]\n\n"));
    pieces.push(b"0\r\n\r\n".to_vec());
    pieces
});

/// Serves until its input is closed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().lines().next().is_none());
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    };
    tokio::select! {
        _ = parent => {}
        () = accepting => {}
    }
    Ok(())
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next())
            .map_or(0, |it| it.parse().unwrap_or(0));
        while buffer.len() < end + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let request = buffer.split_to(end + length);
        if request.windows(14).any(|window| window == b"\"stream\":true,") || request.ends_with(b"\"stream\":true}") {
            for piece in STREAM.iter() {
                stream.write_all(piece).await?;
            }
        } else {
            stream.write_all(&WHOLE).await?;
        }
    }
}
