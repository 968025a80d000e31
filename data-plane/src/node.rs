//! A whole node: a gateway, what it serves from the link, and what it reports on it. Takes its addresses, reads the last
//! known good configuration, accepts, and only then dials; stops in the order that loses nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::telemetry::TelemetryError;
use crate::config::{Config, ConfigError, Unwritten};
use crate::follow::{self, Follower, Status};
use crate::gateway::{Bound, Gateway, GatewayError};
use crate::lease::{self, Leasing};
use crate::limit::board::Board;
use crate::link::{GatewayToken, Link, LinkError};
use crate::listener::admin::Surroundings;
use crate::pipeline::account::Sink;
use crate::report::{self, Reporting, Watch};
use crate::telemetry::Spend;
use crate::telemetry::otlp::{self, Exporting};

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody told it where the control plane is.
    #[error("`link.address` is not set: the node needs its control plane's host:port")]
    NoAddress,
    /// Nobody gave it a gateway token.
    #[error("neither `link.token` nor `link.token_file` is set: make a gateway token in the console")]
    NoToken,
    /// Address or token of the link are not of their form.
    #[error("the link to the control plane cannot be prepared")]
    Link(#[from] LinkError),
    /// The collector that is configured cannot be told.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The gateway cannot listen.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// A running node.
#[derive(Debug)]
pub struct Handle {
    /// Where requests come in.
    pub gateway: SocketAddr,
    /// Where health and metrics are; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    running: Gateway,
    follower: Follower,
    reporting: Reporting,
    leasing: Leasing,
    exporting: Option<Exporting>,
}

impl Handle {
    /// How the link is doing, and what is served.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.follower.status()
    }

    /// Takes no more requests, lets open ones finish within the drain time, hands over their records, joins every task.
    pub async fn shutdown(self) {
        let Self { gateway: _, admin: _, running, follower, reporting, leasing, exporting } = self;
        // The control plane is told at once; what is served stays until the last request has gone.
        tokio::join!(follower.shutdown(), running.shutdown());
        tokio::join!(leasing.shutdown(), reporting.shutdown());
        if let Some(exporting) = exporting {
            exporting.shutdown().await;
        }
    }
}

/// Starts a node. Returns when it listens and has loaded its last known good configuration; without one it answers 503
/// until the control plane has sent one.
pub async fn start(mut config: Config) -> Result<Handle, Error> {
    if config.link.address.is_empty() {
        return Err(Error::NoAddress);
    }
    let token = config.token()?.ok_or(Error::NoToken)?;
    let token = GatewayToken::parse(token.expose())?;
    let link = Link::new(&config.link.address, &token)?;
    if let Ok(control_plane) = config.link.address.parse() {
        config.gateway.protected.push(control_plane);
    }
    let (node, boot) = (name(&config), Uuid::now_v7());
    let directory = config.store.data_dir.clone();
    // Whatever is wrong with the addresses is known before a file is touched that another process may be using.
    let bound = Bound::bind(&config).await?;
    let runtime = Arc::new(ArcSwapOption::empty());
    let spend = Arc::new(Spend::new(Arc::clone(&runtime)));
    let counting = Arc::clone(&spend);
    let exporting = otlp::start(&config.telemetry, (&node, boot), Arc::clone(&runtime))?;
    let (told, exporting) = exporting.unzip();
    let telling = told.clone();
    let watch = Watch::new(move |records| {
        counting.count(records);
        if let Some(telling) = &telling {
            telling.see(records);
        }
    });
    let options = report::Options {
        link: link.clone(),
        node: node.clone(),
        boot,
        directory: directory.join("usage"),
        workers: config.gateway.workers().get(),
        strict: config.usage.unwritten == Unwritten::Refuse,
        watch: Some(watch),
    };
    let (reporter, reporting) = report::start(options).await;
    // Before the first connection is accepted: what this node served when it was stopped, it serves from the start.
    let board = Arc::new(Board::default());
    let lease = lease::Options { link: link.clone(), node: node.clone(), boot, board: Arc::clone(&board) };
    let follow = follow::Options { link, token, node, boot, directory };
    let restored = follow::restore(follow, Arc::clone(&runtime)).await;
    let (usage, starts) = (reporter.clone(), reporter.clone());
    let sink = Sink::new(move |record| reporter.record(record)).beginning(move |start| starts.begin(start));
    let running = match bound.serve(&config, runtime, sink, Some(board)) {
        Ok(running) => running,
        Err(error) => {
            reporting.shutdown().await;
            if let Some(exporting) = exporting {
                exporting.shutdown().await;
            }
            return Err(error.into());
        }
    };
    let (follower, leasing) = (restored.follow(), lease::start(lease));
    running.surroundings(Surroundings { link: follower.status(), usage, spend, otlp: told });
    Ok(Handle { gateway: running.address, admin: running.admin, running, follower, reporting, leasing, exporting })
}

/// Runs a node until told to stop.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let handle = start(config).await?;
    stop.cancelled().await;
    handle.shutdown().await;
    Ok(())
}

/// The configured name, or the machine's.
fn name(config: &Config) -> String {
    if !config.gateway.name.is_empty() {
        return config.gateway.name.clone();
    }
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    machine.ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "node".to_owned())
}
