//! Whether the master keys at hand are the ones this store was sealed with.
//!
//! For every key that ever sealed, the store holds a canary: a known text under that key. All of them must open, or the
//! control plane does not start: going on would write secrets that nobody can read together with the old ones. The key
//! file of a new store is made here, after the store has said that it is new.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use uuid::Uuid;

use super::engine::{Engine, Transaction, run};
use crate::model::error::Error;
use crate::seal::{KeyId, Keyring, OpenError, Place, RingError};
use crate::sensitive::Sensitive;

const CANARY: &str = "lockgate canary";

/// Where the keys come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file; made if it is absent and the store is new.
    File(PathBuf),
    /// The ring's text itself.
    Text(Sensitive),
}

/// Why the secrets of the store cannot be read. The texts say which key is wanted and what to do.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The store could not be asked.
    #[error("the store could not be asked for its master key's id")]
    Store(Error),
    /// The file could not be read or made.
    #[error("cannot use the master key file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no key ring.
    #[error("{origin} is no master key ring: {error}")]
    Ring {
        /// The file, or the key of the configuration.
        origin: String,
        /// Why.
        error: RingError,
    },
    /// The store was sealed with a key, and there is no file.
    #[error(
        "the store was sealed with master key {wanted}, but {path} does not exist; \
         put the file with that key there, or name it with security.master_key_file"
    )]
    Missing {
        /// Which key the store wants.
        wanted: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The ring lacks a key.
    #[error(
        "the store was sealed with master key {wanted}, but {origin} holds {found}; add a line with that key \
         (any line opens, the first seals), or use the store that belongs to this key"
    )]
    Wrong {
        /// Which key the store wants.
        wanted: String,
        /// The file, or the key of the configuration.
        origin: String,
        /// Which keys there are.
        found: String,
    },
    /// A canary does not open under its own key.
    #[error("the canary of master key {wanted} was altered; the store is damaged or was tampered with")]
    Damaged {
        /// Which key.
        wanted: String,
    },
}

/// The ring of keys, proven against the store's canaries.
pub async fn unlock(
    engine: &Engine,
    organization_id: Uuid,
    source: &Source,
    at: OffsetDateTime,
) -> Result<Keyring, UnlockError> {
    let mut transaction = engine.begin().await.map_err(UnlockError::Store)?;
    // Two control planes that start on a new store: the second sees the canary of the first.
    lock(&mut transaction, organization_id).await.map_err(UnlockError::Store)?;
    let canaries: Vec<(String, Vec<u8>)> = canaries(&mut transaction).await.map_err(UnlockError::Store)?;
    let wanted = canaries.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ");
    let (text, origin) = match source {
        Source::Text(text) => (text.clone(), "security.master_key".to_owned()),
        Source::File(path) => {
            let text = match read(path)? {
                Some(text) => text,
                None if canaries.is_empty() => generate(path)?,
                None => return Err(UnlockError::Missing { wanted, path: path.clone() }),
            };
            (text, path.display().to_string())
        }
    };
    let ring = Keyring::parse(&text).map_err(|error| UnlockError::Ring { origin: origin.clone(), error })?;
    for (id, sealed) in &canaries {
        match ring.open(&place(organization_id), sealed) {
            Ok(text) if text.expose() == CANARY => {}
            Err(OpenError::UnknownKey(wanted)) => {
                let found = ring.ids().map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
                return Err(UnlockError::Wrong { wanted: wanted.to_string(), origin, found });
            }
            Ok(_) | Err(OpenError::Malformed | OpenError::Altered) => {
                return Err(UnlockError::Damaged { wanted: id.clone() });
            }
        }
    }
    if !canaries.iter().any(|(id, _)| *id == ring.first().to_string()) {
        insert(&mut transaction, organization_id, &ring, at).await.map_err(UnlockError::Store)?;
        tracing::info!(key.id = %ring.first(), "secrets are sealed with master key {} from now on", ring.first());
    }
    transaction.commit().await.map_err(UnlockError::Store)?;
    Ok(ring)
}

fn place(organization_id: Uuid) -> Place {
    Place { table: "keyring_canary", row: organization_id, column: "sealed", version: 0 }
}

async fn lock(transaction: &mut Transaction, organization_id: Uuid) -> Result<(), Error> {
    run!(transaction, connection => sqlx::query("UPDATE organization SET audit_seq = audit_seq WHERE id = $1")
        .bind(organization_id).execute(connection).await.map(|_| ()))?;
    Ok(())
}

async fn canaries(transaction: &mut Transaction) -> Result<Vec<(String, Vec<u8>)>, Error> {
    Ok(run!(transaction, connection =>
        sqlx::query_as("SELECT key_id, sealed FROM keyring_canary ORDER BY key_id").fetch_all(connection).await)?)
}

async fn insert(
    transaction: &mut Transaction,
    organization_id: Uuid,
    ring: &Keyring,
    at: OffsetDateTime,
) -> Result<(), Error> {
    let sealed = ring.seal(&place(organization_id), &Sensitive::new(CANARY.to_owned()));
    debug_assert_eq!(KeyId::of_sealed(&sealed), Some(ring.first()));
    run!(transaction, connection => sqlx::query(
            "INSERT INTO keyring_canary (key_id, organization_id, sealed, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(ring.first().to_string()).bind(organization_id).bind(&sealed).bind(at)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}

fn read(path: &Path) -> Result<Option<Sensitive>, UnlockError> {
    let failed = |source| UnlockError::File { path: path.to_owned(), source };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Sensitive::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        // Not refused: orchestrators mount secrets with modes of their own.
        tracing::warn!("others on this machine can read the master key; run: chmod 600 {}", path.display());
    }
    Ok(Some(text))
}

/// Writes a new ring where no file is: whole or not at all, and never over another.
fn generate(path: &Path) -> Result<Sensitive, UnlockError> {
    let text = Keyring::generate();
    write_private(path, text.expose()).map_err(|source| UnlockError::File { path: path.to_owned(), source })?;
    tracing::info!("made a master key: {}; keep a copy apart from the store's backups", path.display());
    Ok(text)
}

/// Makes a file of mode 0600 that was not there, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // Unlike a rename, a link never replaces what somebody else made meanwhile.
            std::fs::hard_link(&temporary, path)?;
            std::fs::File::open(directory)?.sync_all()
        });
    let _ = std::fs::remove_file(&temporary);
    written
}
