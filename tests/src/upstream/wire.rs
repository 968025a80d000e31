//! HTTP/1.1 on a socket, as little of it as a scripted vendor needs.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// In the order and the spelling in which they came.
    pub headers: Vec<(String, String)>,
    /// Start line and headers, byte for byte (read as UTF-8, lossily).
    pub raw_head: String,
    /// Without its framing.
    pub body: Bytes,
}

impl Request {
    /// The first value of the header; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query without its `?`; empty if there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a connection is made of: TCP, or TLS on it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// Closing sends a reset from now on.
    fn reset_on_close(&self);
}

impl Socket for TcpStream {
    fn reset_on_close(&self) {
        self.set_zero_linger().expect("a connected socket takes options");
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// Writes at once: one call, one segment.
pub(super) async fn write(stream: &mut impl Socket, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends the sending side in order.
pub(super) async fn close(stream: &mut impl Socket) {
    let _ = stream.shutdown().await;
}

/// Returns when the other side is gone; what it sends meanwhile is kept.
pub(super) async fn gone(stream: &mut impl Socket, buffer: &mut BytesMut) {
    while matches!(stream.read_buf(buffer).await, Ok(read) if read > 0) {}
}

/// The next request on the connection; `None` if the other side closed it between two.
pub(super) async fn read_request(stream: &mut impl Socket, buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    let head = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break buffer.split_to(end + 4);
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    let raw_head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = raw_head.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (start.next().unwrap_or_default().to_owned(), start.next().unwrap_or_default().to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, target, headers, raw_head, body: Bytes::new() };
    request.body = if request.header("transfer-encoding").is_some() {
        read_chunked(stream, buffer).await?
    } else {
        let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        take(stream, buffer, length).await?
    };
    Ok(Some(request))
}

async fn read_chunked(stream: &mut impl Socket, buffer: &mut BytesMut) -> io::Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let size = line(stream, buffer).await?;
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            // Trailers, up to the empty line.
            while !line(stream, buffer).await?.is_empty() {}
            return Ok(body.freeze());
        }
        body.extend_from_slice(&take(stream, buffer, size).await?);
        line(stream, buffer).await?;
    }
}

async fn line(stream: &mut impl Socket, buffer: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = find(buffer, b"\r\n") {
            let line = buffer.split_to(end + 2);
            return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn take(stream: &mut impl Socket, buffer: &mut BytesMut, length: usize) -> io::Result<Bytes> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.split_to(length).freeze())
}

fn find(buffer: &[u8], needle: &[u8]) -> Option<usize> {
    buffer.windows(needle.len()).position(|window| window == needle)
}
