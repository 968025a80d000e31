//! Starting the real binary and speaking to it: nothing here knows more than a user's shell does.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Longer than anything takes on a machine that compiles beside it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whatever went wrong on the way.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A running `lockgate`; killed when dropped. What it printed is in the test's output if the test fails.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `lockgate` with a clean environment, its output in `log`.
    pub(crate) fn start(log: &Path, arguments: &[&str]) -> Self {
        let out = fs::File::create(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lockgate"))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().await.unwrap().success());
    }

    /// Its exit code, once it has ended.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("it does not end:\n{}", self.printed())).unwrap().code()
    }

    /// `kill -9`, and until the process is gone.
    pub(crate) async fn kill_nine(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    /// Whether it is still there.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// A running `lockgate dev` whose ready file is there.
pub(crate) struct Dev {
    pub(crate) process: Process,
    pub(crate) ready: Value,
}

impl Dev {
    /// Starts it on free ports over a directory, and waits for the ready file.
    pub(crate) async fn start(directory: &Path, more: &[&str]) -> Self {
        let ready_file = directory.join("ready.json");
        let data = directory.join("data");
        let mut arguments = vec!["dev", "--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"];
        arguments.extend(["--data-dir", data.to_str().unwrap(), "--ready-file", ready_file.to_str().unwrap()]);
        arguments.extend(more);
        // The last start's file would say that it is ready.
        let _ = fs::remove_file(&ready_file);
        let mut process = Process::start(&directory.join("log"), &arguments);
        let ready = eventually("the ready file", || {
            assert!(process.runs(), "it ended:\n{}", process.printed());
            std::future::ready(fs::read(&ready_file).ok())
        })
        .await;
        let mode = fs::metadata(&ready_file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "the ready file holds credentials");
        Self { process, ready: serde_json::from_slice(&ready).unwrap() }
    }

    /// A text of the ready file.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {}", self.ready))
    }

    /// Calls the REST API as the local administrator.
    pub(crate) async fn api(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let url = format!("{}/api/v1{path}", self.text("/api"));
        let token = format!("Bearer {}", self.text("/token"));
        call(method, &url, &[("authorization", &token)], body).await.unwrap()
    }

    /// Ends it as Ctrl-C does, and checks that it said goodbye.
    pub(crate) async fn stop(mut self) {
        self.process.signal("TERM").await;
        assert_eq!(self.process.ended().await, Some(0), "{}", self.process.printed());
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of a good answer.
    pub(crate) fn json(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// One request on a connection of its own.
pub(crate) async fn call(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Result<Reply, BoxError> {
    let (head, body) = open(method, url, headers, body).await?.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
}

/// One request, of whose answer the body is still to come.
pub(crate) async fn open(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Result<Response<Incoming>, BoxError> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().expect("an absolute URL").to_string();
    let socket = TcpStream::connect(&authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    // Ends with the answer's body, or with the test.
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(uri.path_and_query().expect("a path").as_str());
    request = request.header("host", &authority).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    Ok(sender.send_request(request.body(Full::new(body))?).await?)
}

/// Polls until there is something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "no sign of {what} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port that nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
