//! The composition root: takes the configuration apart, builds the parts in the order of their needs, binds sockets
//! before anything is made, and joins every task at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::router::{App, Parts, router};
use crate::api::site::{Site, UnusableUrl};
use crate::ca::Authority;
use crate::config::{self, Config};
use crate::events::Events;
use crate::link::Link;
use crate::listener::{self, Limits};
use crate::model::error as model;
use crate::model::template::{TemplateError, Templates};
use crate::model::usage::{Kept, Retention};
use crate::password::Passwords;
use crate::sensitive::Sensitive;
use crate::store::audit::{self, Verified};
use crate::store::master_key::{self, Source, UnlockError};
use crate::store::{Location, OpenError, Store, microseconds, now, period, price, template, throttle, unlogged, wake};

mod first_start;
mod local_admin;

pub use local_admin::LocalAdmin;

/// The embedded store, in the data directory.
const DATABASE: &str = "lockgate.db";
/// Between two sweeps of what is forgotten.
const SWEEP: Duration = Duration::from_mins(15);

/// Why the control plane does not start or cannot do what it was asked. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The public URL.
    #[error(transparent)]
    Site(#[from] UnusableUrl),
    /// A socket.
    #[error("cannot listen on {address} ({key}): {source}; choose another address or end what holds it")]
    Bind {
        /// The key that names it.
        key: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The data directory, or a file in it or beside it.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process works on the same embedded store.
    #[error(
        "another control plane uses {0}; the embedded store serves one: end the other, or set store.url to Postgres"
    )]
    Locked(PathBuf),
    /// `store.url` is of neither engine.
    #[error("store.url must begin with postgres://; leave it out for the embedded store")]
    StoreUrl,
    /// The store does not open.
    #[error("the store does not open; check store.url (or DATABASE_URL) and that the database runs")]
    Store(#[source] OpenError),
    /// The master key is missing or wrong.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// A template that the binary carries is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// An operation on the store failed.
    #[error("the store failed: {0:?}")]
    Operation(model::Error),
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        Self::Operation(error)
    }
}

/// A control plane that serves. Dropped without [`Handle::shutdown`], its tasks are cut.
#[derive(Debug)]
pub struct Handle {
    /// REST API and console.
    pub api: SocketAddr,
    /// Where nodes connect.
    pub link: SocketAddr,
    /// Scheme, host and port at which browsers reach the API and the console.
    pub public_url: String,
    /// Where the first owner's token was written, and the token; `None` once there is an owner.
    pub bootstrap: Option<FirstOwnerToken>,
    app: App,
    admin: tokio::sync::OnceCell<Sensitive>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// Held for as long as the embedded store is ours.
    _lock: Option<std::fs::File>,
}

/// The first owner's token and the file that holds it.
#[derive(Clone, Debug)]
pub struct FirstOwnerToken {
    /// `lgb_...`
    pub token: Sensitive,
    /// Mode 0600.
    pub file: PathBuf,
}

/// Starts everything; returns when the sockets are bound, the store is migrated and the API answers.
pub async fn start(config: Config) -> Result<Handle, Error> {
    let Config { server, store, link, security, bootstrap, usage, log: _ } = config;
    // Sockets first: a port that is taken must not leave half a first start behind.
    let (api_listener, api) = bind("server.listen", server.listen).await?;
    let (link_listener, link_address) = bind("link.listen", link.listen).await?;
    let public_url = match server.public_url {
        Some(url) => url,
        None => Url::parse(&format!("http://{api}")).map_err(|_| UnusableUrl::NoOrigin)?,
    };
    let site = Site::new(&public_url, server.allow_insecure)?.behind(server.trusted_proxies);
    if !site.https() && !api.ip().is_loopback() {
        tracing::warn!(
            "the API listens on {api} without TLS: let nothing but a proxy with TLS or this machine reach that port"
        );
    }

    make_directory(&store.data_dir)?;
    let (location, lock) = locate(store.url.as_ref(), &store.data_dir)?;
    let data_dir = store.data_dir;
    let store = Store::open(&location).await.map_err(Error::Store)?;
    match &location {
        Location::Sqlite(path) => tracing::info!(
            "the store is the embedded SQLite at {}, for one control plane; set store.url or DATABASE_URL to a \
             postgres:// address to run more than one",
            path.display()
        ),
        Location::Postgres(_) => tracing::info!("the store is Postgres"),
    }
    let source = match (security.master_key, security.master_key_file) {
        (Some(text), _) => Source::Text(text),
        (None, Some(path)) => Source::File(path),
        (None, None) => Source::File(data_dir.join("master.key")),
    };
    let keyring = master_key::unlock(store.engine(), store.first_organization(), &source, now()).await?;
    let keyring = Arc::new(keyring);
    let authority = Authority::ensure(&store, &keyring).await?;
    let (ca_fingerprint, link_tls) = (authority.fingerprint(), authority.server_config()?);
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let passwords = Passwords::new(at_once)?;

    let templates = Templates::builtin()?;
    template::sync(&store, &templates).await?;
    price::sync_shipped(&store, &templates).await?;
    first_start::gateway(&store, &bootstrap, &ca_fingerprint).await?;
    let owner_token = first_start::owner_token(&store, &data_dir, site.origin()).await?;

    let public_url = site.origin().to_owned();
    let stop = CancellationToken::new();
    let events = Events::default();
    let parts = Parts { store, keyring, passwords, site, templates, ca_fingerprint, events, stop: stop.clone() };
    let app = App::new(parts);
    let mut tasks = JoinSet::new();
    tasks.spawn(wake::run(app.store.clone(), stop.clone()));
    tasks.spawn(sweep(app.store.clone(), stop.clone()));
    let limits = Limits::of(server.max_connections);
    tasks.spawn(listener::serve(api_listener, router(app.clone()), limits, stop.clone()));
    let keeping = usage.keeping();
    tasks.spawn(retain(app.store.clone(), keeping.retention, stop.clone()));
    let link = Link::new(&app.store, &app.keyring, &app.events, keeping);
    tasks.spawn(link.run(link_listener, link_tls, stop.clone()));
    tracing::info!("the API and the console are at {public_url}, nodes connect to {link_address}");
    Ok(Handle {
        api,
        link: link_address,
        public_url,
        bootstrap: owner_token,
        app,
        admin: tokio::sync::OnceCell::new(),
        stop,
        tasks,
        _lock: lock,
    })
}

/// Serves until `stop`, then drains. Prints the first owner's token, once, if there is no owner yet.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let handle = start(config).await?;
    if let Some(owner) = &handle.bootstrap {
        first_start::print(owner, &handle.public_url);
    }
    stop.cancelled().await;
    handle.shutdown().await;
    Ok(())
}

impl Handle {
    /// Takes no more, lets what is in flight finish, joins every task and closes the store.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the control plane did not end well");
            }
        }
        self.app.store.engine().close().await;
    }
}

/// Walks the audit log's chain of the first organization; opens the store and nothing else.
pub async fn verify_audit(config: Config) -> Result<Verified, Error> {
    let location = match config.store.url.as_ref() {
        Some(url) => postgres(url)?,
        None => Location::Sqlite(config.store.data_dir.join(DATABASE)),
    };
    let store = Store::open(&location).await.map_err(Error::Store)?;
    let verified = audit::verify(store.engine(), store.first_organization()).await;
    store.engine().close().await;
    Ok(verified?)
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// For us alone: the embedded store and the master key lie in it.
fn make_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Which store; the embedded one is locked against a second process.
fn locate(url: Option<&Sensitive>, data_dir: &Path) -> Result<(Location, Option<std::fs::File>), Error> {
    if let Some(url) = url {
        return Ok((postgres(url)?, None));
    }
    let path = data_dir.join("control-plane.lock");
    let failed = |source| Error::File { path: path.clone(), source };
    let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok((Location::Sqlite(data_dir.join(DATABASE)), Some(lock))),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn postgres(url: &Sensitive) -> Result<Location, Error> {
    let text = url.expose();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        Ok(Location::Postgres(text.to_owned()))
    } else {
        Err(Error::StoreUrl)
    }
}

async fn sweep(store: Store, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        if let Err(error) = throttle::sweep(store.engine(), now()).await {
            tracing::warn!(?error, "old failed sign-ins could not be swept");
        }
    }
}

/// How often it is looked for periods of usage that are over.
const RETAIN: Duration = Duration::from_mins(10);

async fn retain(store: Store, retention: Retention, stop: CancellationToken) {
    loop {
        for kept in Kept::ALL {
            match period::drop_before(&store, kept, retention.cut_us(kept, microseconds(now()))).await {
                Ok(0) => {}
                Ok(dropped) => {
                    tracing::info!(kept = kept.as_str(), dropped, "periods of usage are over and were dropped");
                }
                Err(error) => tracing::warn!(?error, "periods of usage that are over could not be dropped"),
            }
        }
        if let Err(error) = unlogged::drop_before(&store, retention.cut_us(Kept::Hours, microseconds(now()))).await {
            tracing::warn!(?error, "what was left out of the request log could not be forgotten");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests;
