//! Postgres for tests: a database of its own per test, in the one cluster of the test run (`tests/postgres.sh`), or a
//! whole cluster for the test that takes it away.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// The variable that nextest's set-up script fills.
const VARIABLE: &str = "LOCKGATE_TEST_POSTGRES";

/// A fresh, empty database in the cluster of this test run. It goes when the cluster goes.
pub fn database() -> String {
    let server = std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{VARIABLE} is not set: run the tests with `cargo nextest run`, which starts a private Postgres for them"
        )
    });
    create_database(&server)
}

fn create_database(server: &str) -> String {
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    script(&["create", server, &name]);
    let (base, _) = server.rsplit_once('/').expect("a database URL has a path");
    format!("{base}/{name}")
}

/// A cluster that one test may stop and start again.
pub struct Cluster {
    folder: TempDir,
    url: String,
}

impl Cluster {
    /// Starts one, which takes about a second.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("lockgate-postgres.").tempdir().expect("a temporary folder");
        let url = script(&["start", folder.path().to_str().expect("a plain path")]);
        Self { folder, url }
    }

    /// A fresh, empty database in it.
    pub fn database(&self) -> String {
        create_database(&self.url)
    }

    /// Ends the server, connections and all; the data stays.
    pub fn pause(&self) {
        script(&["pause", self.folder.path().to_str().expect("a plain path")]);
    }

    /// Starts the server again where it was.
    pub fn resume(&self) {
        script(&["resume", self.folder.path().to_str().expect("a plain path")]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        script(&["stop", self.folder.path().to_str().expect("a plain path")]);
    }
}

fn script(arguments: &[&str]) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("postgres.sh");
    // The server inherits what the script has open: a pipe for errors would never end.
    let output = Command::new(script).args(arguments).stderr(Stdio::inherit()).output().expect("bash runs the script");
    assert!(output.status.success(), "postgres.sh {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("the script prints text").trim().to_owned()
}
