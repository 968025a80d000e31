//! `lockgate dev`: both planes and the sample upstream in one process, on embedded defaults.
//!
//! Decides the order in which the parts start and stop, and what lies where in the data directory. What the parts do is
//! theirs; the node is on the real link, with a token from a file, like any other node.

mod data_dir;
mod print;
mod provision;

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use self::data_dir::DataDir;
use self::provision::Provisioned;
use crate::client::Client;
use crate::command::{Dev, LogFormat};
use crate::logging;
use crate::sample::Sample;

/// The gateway that the first start of a control plane makes.
const GATEWAY: &str = "default";

/// What is ready, for those who print it.
struct Ready<'a> {
    options: &'a Dev,
    api: SocketAddr,
    gateway: SocketAddr,
    admin: control_plane::LocalAdmin,
    sample: Option<Provisioned>,
}

/// Starts everything, says so, and serves until it is told to stop.
pub(crate) async fn run(options: &Dev, format: LogFormat, stop: CancellationToken) -> anyhow::Result<()> {
    let data = DataDir::open(&options.data_dir)?;
    if let Some(path) = &options.ready_file {
        data_dir::remove(path).with_context(|| format!("cannot remove the old {}", path.display()))?;
    }
    free(options.api_listen, "--api-listen")?;
    free(options.gateway_listen, "--gateway-listen")?;

    let control = control_plane::start(control_plane_config(options, &data)?).await.context("the control plane")?;
    let node = match data_plane::start(data_plane_config(options, format, &data, &control)).await {
        Ok(node) => node,
        Err(error) => {
            control.shutdown().await;
            return Err(anyhow::Error::from(error).context("the data plane"));
        }
    };
    let mut sample = None;
    let served = tokio::select! {
        ready = make_ready(options, &data, &control, &node, &mut sample) => match ready {
            Ok(()) => {
                stop.cancelled().await;
                Ok(())
            }
            Err(error) => Err(error),
        },
        () = stop.cancelled() => Ok(()),
    };
    // Requests first: what is in flight finishes while everything it needs is still there.
    node.shutdown().await;
    control.shutdown().await;
    if let Some(sample) = sample {
        sample.shutdown().await;
    }
    served
}

async fn make_ready(
    options: &Dev,
    data: &DataDir,
    control: &control_plane::Handle,
    node: &data_plane::Handle,
    sample: &mut Option<Sample>,
) -> anyhow::Result<()> {
    let admin = control.local_admin().await.context("cannot make the local administrator")?;
    let client = Client::new(control.api.to_string(), Some(admin.token.clone()));
    provision::gateway(&client, node.gateway).await.context("cannot set up the gateway")?;
    let provisioned = if options.no_sample {
        None
    } else {
        let started = sample.insert(start_sample(data, options).await?);
        Some(provision::sample(&client, data, started, node.gateway).await.context("cannot set up the sample")?)
    };
    provision::applied(&client).await?;
    let ready = Ready { options, api: control.api, gateway: node.gateway, admin, sample: provisioned };
    if let Some(path) = &options.ready_file {
        print::ready_file(&ready, path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print::banner(&ready).context("cannot print")
}

fn control_plane_config(options: &Dev, data: &DataDir) -> anyhow::Result<control_plane::Config> {
    let flags = [
        ("server.listen", options.api_listen.to_string()),
        ("link.listen", "127.0.0.1:0".to_owned()),
        ("store.data_dir", data.control_plane().display().to_string()),
        ("bootstrap.gateway_token_file", data.gateway_token().display().to_string()),
    ];
    let flags = flags.map(|(key, value)| (key.to_owned(), value));
    Ok(control_plane::Config::load(None, [], flags)?)
}

fn data_plane_config(
    options: &Dev,
    format: LogFormat,
    data: &DataDir,
    control: &control_plane::Handle,
) -> data_plane::Config {
    let mut config = data_plane::Config::default();
    logging::like_the_rest(&mut config.log, format);
    config.gateway.listen = options.gateway_listen;
    "dev".clone_into(&mut config.gateway.name);
    // Loopback is allowed as an upstream here; the control plane is not.
    config.gateway.protected = vec![control.api, control.link];
    config.link.address = control.link.to_string();
    config.link.token_file = Some(data.gateway_token());
    config.store.data_dir = data.data_plane();
    // Metrics and health are for operators; nobody should find their port taken by a trial.
    config.admin.listen = None;
    config
}

/// The port of the last start if it is free, so that the providers' upstream URLs stay as they are.
async fn start_sample(data: &DataDir, options: &Dev) -> anyhow::Result<Sample> {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let last = data.sample_port();
    let sample = match Sample::start(loopback(last.unwrap_or(0)), options.pace.pause).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Sample::start(loopback(0), options.pace.pause).await
        }
        started => started,
    };
    let sample = sample.context("cannot start the sample upstream")?;
    data.keep_sample_port(sample.address().port())?;
    Ok(sample)
}

/// Says which option to use before anything has been started. Another process may still come in between; then the plane
/// says which address it could not bind.
fn free(address: SocketAddr, option: &str) -> anyhow::Result<()> {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let any = SocketAddr::new(address.ip(), 0);
            bail!("{address} is in use; choose another address with {option} ({option} {any} takes any free port)")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address} ({option})")),
    }
}
