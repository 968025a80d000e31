//! What is measured: how it is started, where it listens and what a request to it looks like.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    connection::Connection,
    feeder::configuration::{self, Size},
    nginx,
    process::{Core, Cores, Process, Warden},
};

/// Keys that floor and nginx know: few, so that they are as lean as can be.
pub(crate) const FEW: Size = Size { endpoints: 10, keys: 10 };
/// A configuration of a million keys takes its time.
const START: Duration = Duration::from_mins(10);

/// What stands between the load and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    DirectAgain,
    Floor,
    FloorAgain,
    Nginx,
    Lockgate,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Direct, Self::DirectAgain, Self::Floor, Self::FloorAgain, Self::Nginx, Self::Lockgate];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DirectAgain => "direct-again",
            Self::Floor => "floor",
            Self::FloorAgain => "floor-again",
            Self::Nginx => "nginx",
            Self::Lockgate => "lockgate",
        }
    }
}

/// What starting a subject needs.
pub(crate) struct Ground {
    pub(crate) warden: Warden,
    pub(crate) cores: Cores,
    pub(crate) upstream: SocketAddr,
    pub(crate) lockgate: PathBuf,
    pub(crate) folder: tempfile::TempDir,
}

/// A running subject.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    size: Size,
    /// `None`: nothing stands between. Ends before its control plane does, which is why it stands above it.
    pub(crate) process: Option<Process>,
    log: Option<PathBuf>,
    /// Of a data plane.
    feeder: Option<Process>,
}

impl Subject {
    pub(crate) async fn start(ground: &Ground, kind: Kind, size: Size) -> anyhow::Result<Self> {
        Self::start_under(ground, kind, size, &[]).await
    }

    /// A node with the deadlines that it has when nobody says otherwise.
    pub(crate) async fn start_as_usual(ground: &Ground, size: Size) -> anyhow::Result<Self> {
        let mut subject = Node::prepare_with(ground, size, "")?.subject(ground, size, &[])?;
        subject.answers().await?;
        Ok(subject)
    }

    /// Under a tool that runs it: a profiler.
    pub(crate) async fn start_under(ground: &Ground, kind: Kind, size: Size, tool: &[&str]) -> anyhow::Result<Self> {
        let bare = |address| Self { kind, address, size: FEW, process: None, log: None, feeder: None };
        let mut subject = match kind {
            Kind::Direct | Kind::DirectAgain => bare(ground.upstream),
            Kind::Floor | Kind::FloorAgain => {
                let arguments = ["floor", &ground.upstream.to_string(), &FEW.keys.to_string()];
                let (process, address) =
                    Process::of_ours(&ground.warden, ground.cores, Core::Subject, tool, &arguments)?;
                Self { process: Some(process), ..bare(address.parse()?) }
            }
            Kind::Nginx => {
                let (process, address) = nginx::start(ground)?;
                Self { process: Some(process), ..bare(address) }
            }
            Kind::Lockgate => Node::prepare(ground, size)?.subject(ground, size, tool)?,
        };
        subject.answers().await?;
        Ok(subject)
    }

    /// Waits for the first good answer, to the key that was given last: then it knows all of them.
    pub(crate) async fn answers(&mut self) -> anyhow::Result<()> {
        let request = self.request_with_key(self.size.keys - 1, "/v1/chat/completions", &chat(false));
        let start = Instant::now();
        loop {
            let asked = async {
                let mut connection = Connection::open(self.address).await?;
                connection.exchange(&request).await
            };
            let Err(error) = asked.await else { return Ok(()) };
            if self.process.as_mut().is_some_and(|process| !process.runs()) {
                let log = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
                bail!("{} has ended:\n{log}", self.kind.name());
            }
            if start.elapsed() > START {
                return Err(error).with_context(|| format!("{} does not answer", self.kind.name()));
            }
            // The first moments are what start-up is timed by.
            let pause = if start.elapsed() < Duration::from_secs(1) { 1 } else { 50 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Ends it, as unplugging would; what is left is its control plane.
    pub(crate) fn end(mut self) -> Option<Process> {
        self.feeder.take()
    }

    /// CPU that it has used; nothing where there is nothing.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.process.as_ref().map_or(Ok(Duration::ZERO), Process::cpu)
    }

    /// A whole request; every lane has a key and, as far as there are, an endpoint of its own.
    pub(crate) fn request(&self, lane: usize, path: &str, body: &[u8]) -> Vec<u8> {
        // Prime, so that neighbours do not lie beside each other.
        self.request_with_key(lane * 7_919 % self.size.keys, path, body)
    }

    fn request_with_key(&self, key: usize, path: &str, body: &[u8]) -> Vec<u8> {
        let context = match self.kind {
            Kind::Direct | Kind::DirectAgain => String::new(),
            Kind::Floor | Kind::FloorAgain | Kind::Lockgate => configuration::context(key, self.size),
            Kind::Nginx => nginx::context(path).to_owned(),
        };
        let mut request = format!(
            "POST {context}{path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nUser-Agent: load/1\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            configuration::key(key),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        request
    }

    /// Forgets the log so far: a long run would fill a disk.
    pub(crate) fn shorten_log(&self) -> anyhow::Result<()> {
        if let Some(log) = &self.log {
            fs::File::options().write(true).open(log)?.set_len(0)?;
        }
        Ok(())
    }
}

/// What a data-plane node needs to start: a control plane to follow, an address, a folder.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) feeder: Option<Process>,
    pub(crate) log: PathBuf,
    config: PathBuf,
}

impl Node {
    /// Patient with clients that say nothing: how many there can be is measured, not how soon they are turned away.
    pub(crate) fn prepare(ground: &Ground, size: Size) -> anyhow::Result<Self> {
        Self::prepare_with(ground, size, "first_byte = \"10m\"\nhead = \"10m\"\nkeep_alive = \"10m\"\n")
    }

    fn prepare_with(ground: &Ground, size: Size, deadlines: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(ground.folder.path())?.keep();
        let arguments = ["feeder", &ground.upstream.to_string(), &size.endpoints.to_string(), &size.keys.to_string()];
        let (feeder, line) = Process::of_ours(&ground.warden, ground.cores, Core::Rest, &[], &arguments)?;
        let (link, token) = line.split_once(' ').context("an address and a token")?;
        fs::write(folder.join("token"), token)?;
        let (address, admin) = (::tests::process::free_address(), ::tests::process::free_address());
        let config = format!(
            "[gateway]\nlisten = \"{address}\"\nname = \"load\"\n[link]\naddress = \"{link}\"\ntoken_file = \"{}\"\n\
             [store]\ndata_dir = \"{}\"\n[admin]\nlisten = \"{admin}\"\n\
             [deadlines]\n{deadlines}[log]\nrequests = true\n",
            folder.join("token").display(),
            folder.join("data").display(),
        );
        let path = folder.join("data-plane.toml");
        fs::write(&path, config)?;
        Ok(Self { address, feeder: Some(feeder), log: folder.join("log"), config: path })
    }

    /// Starts the program as it is, or under another one.
    pub(crate) fn subject(&mut self, ground: &Ground, size: Size, tool: &[&str]) -> anyhow::Result<Subject> {
        Ok(Subject {
            kind: Kind::Lockgate,
            address: self.address,
            size,
            process: Some(self.start(ground, tool)?),
            log: Some(self.log.clone()),
            feeder: self.feeder.take(),
        })
    }

    fn start(&self, ground: &Ground, tool: &[&str]) -> anyhow::Result<Process> {
        let mut command = ground.cores.command_under(Core::Subject, tool, &ground.lockgate);
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        // What the shell says about Lockgate is not meant for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKGATE_")) {
            command.env_remove(name);
        }
        command.args(["data-plane", "--config"]).arg(&self.config).stdout(log.try_clone()?).stderr(log);
        Process::spawn(&ground.warden, command)
    }
}

/// The body of a chat request, 1,024 bytes.
pub(crate) fn chat(streamed: bool) -> Vec<u8> {
    let stream = if streamed { r#""stream":true,"# } else { "" };
    let body = |text: &str| {
        format!(r#"{{"model":"gpt-4o",{stream}"messages":[{{"role":"user","content":"{text}"}}],"temperature":0.2}}"#)
    };
    body(&"x".repeat(1_024 - body("").len())).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_size_that_is_told() {
        for streamed in [true, false] {
            let body = chat(streamed);
            assert_eq!(body.len(), 1_024);
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        }
    }
}
