//! `lockgate audit verify`: walks the hash chain of the audit log in the store itself, so that a control plane that was
//! tampered with is not the one to judge.

use anyhow::{Context as _, bail};
use control_plane::store::audit::{self, Verified};
use control_plane::store::{Location, Store};

/// Returns what to print; a broken chain is an error.
pub(crate) async fn verify(config: &control_plane::Config) -> anyhow::Result<String> {
    let location = if let Some(url) = &config.store.url {
        Location::Postgres(url.expose().to_owned())
    } else {
        let path = config.store.data_dir.join("lockgate.db");
        // Opening it would make it.
        anyhow::ensure!(
            path.exists(),
            "there is no store at {}; give the control plane's configuration",
            path.display()
        );
        Location::Sqlite(path)
    };
    let store = Store::open(&location).await.context("cannot open the store")?;
    let verified = audit::verify(store.engine(), store.first_organization()).await;
    store.engine().close().await;
    match verified.map_err(|error| anyhow::anyhow!("cannot read the audit log: {error:?}"))? {
        Verified::Whole { entries } => Ok(format!("the audit log is whole: {entries} entries\n")),
        Verified::Broken { seq } => {
            bail!("the audit log is broken at entry {seq}: it was changed, removed or added later")
        }
    }
}
