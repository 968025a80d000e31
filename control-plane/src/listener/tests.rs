//! The accept loop over real sockets.

use super::*;
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(limits: Limits, hold: Option<Arc<tokio::sync::Notify>>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let service = tower::service_fn(move |request: Request<RequestBody>| {
        let hold = hold.clone();
        async move {
            let peer = request.extensions().get::<Peer>().copied();
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            if let Some(hold) = hold {
                hold.notified().await;
            }
            let text =
                format!("{} {:?}", peer.is_some(), body.map(|body| body.len()).map_err(|error| error.to_string()));
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let task = tokio::spawn(serve(listener, service, limits, stop.clone()));
    Running { address, stop, task }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_request_is_served_and_knows_its_peer() {
    let running = start(Limits::of(8), None).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("true Ok(3)"), "{answer}");
    running.stop.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let running = start(Limits::of(8), None).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let many = "x-many: y\r\n".repeat(HEADERS);
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_connection_that_sends_nothing_more_is_closed() {
    let running = start(Limits { head: Duration::from_millis(50), ..Limits::of(8) }, None).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HT").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stops_coming_ends_with_an_error() {
    let running = start(Limits { body_idle: Duration::from_millis(50), ..Limits::of(8) }, None).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\na").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.contains("nothing of the request's body came for too long"), "{answer}");
}

#[tokio::test]
async fn shutdown_waits_for_the_request_in_flight_and_then_closes() {
    let hold = Arc::new(tokio::sync::Notify::new());
    let running = start(Limits::of(8), Some(Arc::clone(&hold))).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // An idle second connection must not delay the end.
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"").await.unwrap();
    running.stop.cancel();
    hold.notify_one();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn beyond_the_limit_a_connection_waits_for_another_to_close() {
    let running = start(Limits::of(1), None).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut byte = [0; 1];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), second.read_exact(&mut byte)).await.is_err());
    drop(first);
    assert!(read_all(&mut second).await.ends_with("true Ok(0)"));
}
