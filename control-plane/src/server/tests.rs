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
