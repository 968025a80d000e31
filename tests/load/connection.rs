//! A client's connection: sends a request that was made before, and reads the answer to its end.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::answer::Answer;

/// Large enough that one read takes all of an ordinary answer.
const BUFFER: usize = 64 << 10;

/// An open connection, with at most one exchange on it.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER].into() })
    }

    /// Sends the request and reads the answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        self.receive(|_| {}).await
    }

    /// Sends; `progress` sees how many bytes each write has taken.
    pub(crate) async fn send(&mut self, mut bytes: &[u8], mut progress: impl FnMut(usize)) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let written = self.stream.write(&bytes[..bytes.len().min(BUFFER)]).await?;
            progress(written);
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Reads an answer to its end; `progress` sees how many bytes of its body each read has brought.
    pub(crate) async fn receive(&mut self, mut progress: impl FnMut(usize)) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        while !answer.is_done() {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("the connection was closed in mid-answer");
            }
            let before = answer.body;
            answer.take(&self.buffer[..read])?;
            progress(answer.body - before);
        }
        Ok(answer)
    }

    /// Reads an answer of 401 to its end.
    pub(crate) async fn refused(&mut self) -> anyhow::Result<()> {
        let mut text = Vec::new();
        loop {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("the connection was closed in mid-answer");
            }
            text.extend_from_slice(&self.buffer[..read]);
            let shown = String::from_utf8_lossy(&text);
            let Some((head, body)) = shown.split_once("\r\n\r\n") else { continue };
            if !head.starts_with("HTTP/1.1 401 ") {
                bail!("not refused: {head}");
            }
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(());
            }
        }
    }

    /// The connection alone.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}
