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

    /// Sends the request and reads the answer; `progress` sees it after every read.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        mut progress: impl FnMut(&Answer),
    ) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        let mut answer = Answer::default();
        while !answer.is_done() {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                bail!("the connection was closed in mid-answer");
            }
            answer.take(&self.buffer[..read])?;
            progress(&answer);
        }
        Ok(answer)
    }
}
