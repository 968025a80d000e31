//! The product as processes, for what only a process can do: be killed, and be told to stop.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{Client, client::Call, eventually, within};

/// How long a process may take to start: a machine that compiles meanwhile is slow.
pub const START: Duration = Duration::from_mins(1);

/// The program: `LOCKGATE_BIN`, or what cargo built beside this test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("LOCKGATE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    // target/debug/deps/it-... -> target/debug/lockgate
    let path = test.ancestors().nth(2).expect("tests lie two folders deep").join("lockgate");
    assert!(path.exists(), "{} is missing: cargo build -p lockgate", path.display());
    path
}

/// A port of loopback that was free a moment ago, for a process that must come back at its old address.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has a free port")
}

/// A running `lockgate`. Killed with its value.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with these arguments and variables; what it prints goes to `log`, which is appended to.
    pub fn start(arguments: &[&str], variables: &[(&str, String)], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("the log's folder exists");
        let child = Command::new(program())
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .expect("the program starts");
        Self { child, log: log.to_owned() }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal, `TERM` or `INT`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the process must still run:\n{}", self.output());
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the process to end", async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until it answers 200 to `GET path` at `address`.
    pub async fn ready(&mut self, address: SocketAddr, path: &str) {
        let client = Client::new(&address.to_string());
        let (child, log) = (&mut self.child, &self.log);
        within(START, "the process to be ready", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("it ended with {status}:\n{}", fs::read_to_string(log).unwrap_or_default());
            }
            let mut exchange = client.begin(&Call::get(path)).await.map_err(|error| error.to_string())?;
            match exchange.whole().await.status() {
                200 => Ok(()),
                status => Err(status.to_string()),
            }
        })
        .await;
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has ended by itself, and how.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
