//! Starting, being asked, ending.

use super::*;

fn config(directory: &Path) -> Config {
    let flags = [
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("link.listen", "127.0.0.1:0".to_owned()),
        ("store.data_dir", directory.display().to_string()),
    ];
    Config::load(None, [], flags.map(|(key, value)| (key.to_owned(), value))).unwrap()
}

#[tokio::test]
async fn a_second_control_plane_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = start(config(directory.path())).await.unwrap();
    let error = start(config(directory.path())).await.unwrap_err().to_string();
    assert!(error.contains("end the other"), "{error}");
    first.shutdown().await;
    start(config(directory.path())).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_is_made() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&directory.path().join("data"));
    config.server.listen = taken.local_addr().unwrap();
    let error = start(config).await.unwrap_err().to_string();
    assert!(error.contains("server.listen") && error.contains("choose another address"), "{error}");
    assert!(!directory.path().join("data").exists());
}

#[tokio::test]
async fn plain_http_beyond_this_machine_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.server.listen = "0.0.0.0:0".parse().unwrap();
    let error = start(config).await.unwrap_err().to_string();
    assert!(error.contains("server.allow_insecure"), "{error}");
}

/// One request on a connection of its own; the whole answer.
async fn ask(address: SocketAddr, head: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_embedded_store_that_is_away_is_503_and_never_401() {
    let directory = tempfile::tempdir().unwrap();
    let handle = start(config(directory.path())).await.unwrap();
    let token = handle.local_admin().await.unwrap().token;
    let head = format!("GET /api/v1/session HTTP/1.1\r\nauthorization: Bearer {token}");
    assert!(ask(handle.api, &head).await.starts_with("HTTP/1.1 200"));
    handle.app.store.engine().close().await;
    let answer = ask(handle.api, &head).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"unavailable\""), "{answer}");
    assert!(ask(handle.api, "GET /readyz HTTP/1.1").await.starts_with("HTTP/1.1 503"));
    assert!(ask(handle.api, "GET /healthz HTTP/1.1").await.starts_with("HTTP/1.1 200"));
    handle.shutdown().await;
}
