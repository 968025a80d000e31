//! The only file that knows there are two databases: opening, migrating, transactions, and the wake-up that Postgres
//! adds.
//!
//! Every statement elsewhere is one SQL text (see `migrations/README.md`) run through [`run!`], whose body is compiled
//! once per engine.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgConnection, PgPool, SqliteConnection, SqlitePool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::error::{Error, Internal};

/// Both engines' migrations.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How long a request waits for a connection before the store counts as away.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How long SQLite waits for another process's lock.
const BUSY: Duration = Duration::from_secs(10);
/// The Postgres channel that says "some revision moved".
const CHANNEL: &str = "lockgate_revision";

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A `postgres://` URL. Its `Debug` is never logged: it may hold a password.
    Postgres(String),
    /// A file, made if absent.
    Sqlite(PathBuf),
}

/// Why the store could not be opened. Holds no URL: that may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL or path cannot be used.
    #[error("the store's address is not usable")]
    Address(#[source] sqlx::Error),
    /// The database does not answer.
    #[error("the store does not answer")]
    Connect(#[source] sqlx::Error),
    /// A migration failed, or the store was made by a newer version.
    #[error("the store could not be migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The first rows could not be written.
    #[error("the store could not be prepared: {0:?}")]
    Prepare(Error),
}

/// One of the two databases.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The store of production.
    Postgres(PgPool),
    /// The embedded default, for one control plane.
    Sqlite {
        /// Readers and the writer share it: WAL lets them run beside each other.
        pool: SqlitePool,
        /// One permit: writers queue here, in order, rather than in SQLite's busy loop.
        writer: Arc<Semaphore>,
    },
}

/// The same thing of either engine; what [`run!`] takes apart.
#[derive(Debug)]
pub enum Connection<P, S> {
    /// Of Postgres.
    Postgres(P),
    /// Of SQLite.
    Sqlite(S),
}

/// Runs one body on whichever engine is there: `run!(on, connection => sqlx::query(..).execute(connection).await)`.
/// `on` is an [`Engine`] (one statement, committed at once) or a [`Transaction`].
macro_rules! run {
    ($on:expr, $connection:ident => $body:expr) => {
        match $on.connection() {
            $crate::store::engine::Connection::Postgres($connection) => $body,
            $crate::store::engine::Connection::Sqlite($connection) => $body,
        }
    };
}
pub(crate) use run;

/// Runs a statement that returns no rows: `execute!(on, sqlx::query(..).bind(..))`, the number of rows it touched.
macro_rules! execute {
    ($on:expr, $query:expr) => {
        $crate::store::engine::run!($on, connection => {
            $query.execute(connection).await.map(|done| done.rows_affected())
        })
    };
}
pub(crate) use execute;

impl Engine {
    /// Connects, migrates, and is ready.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::Postgres(url) => {
                let options = PgConnectOptions::from_str(url).map_err(OpenError::Address)?;
                let pool = PgPoolOptions::new()
                    .max_connections(16)
                    .acquire_timeout(ACQUIRE)
                    .connect_with(options.application_name("lockgate"))
                    .await
                    .map_err(OpenError::Connect)?;
                MIGRATIONS.run(&pool).await.map_err(OpenError::Migrate)?;
                Ok(Self::Postgres(pool))
            }
            Location::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .foreign_keys(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // An acknowledged write survives loss of power, not only of the process.
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(BUSY);
                let pool = SqlitePoolOptions::new()
                    .max_connections(8)
                    .acquire_timeout(ACQUIRE)
                    .connect_with(options)
                    .await
                    .map_err(OpenError::Connect)?;
                MIGRATIONS.run(&pool).await.map_err(OpenError::Migrate)?;
                Ok(Self::Sqlite { pool, writer: Arc::new(Semaphore::new(1)) })
            }
        }
    }

    /// A transaction that may write. On SQLite it is the only writer from here on; on Postgres rows decide.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        match self {
            Self::Postgres(pool) => Ok(Transaction(Inner::Postgres(pool.begin().await?))),
            Self::Sqlite { pool, writer } => {
                let wait = tokio::time::timeout(ACQUIRE, Arc::clone(writer).acquire_owned());
                let permit = match wait.await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(closed)) => return Err(Error::Unavailable(Internal::new(closed))),
                    Err(elapsed) => return Err(Error::Unavailable(Internal::new(elapsed))),
                };
                let inner = pool.begin_with("BEGIN IMMEDIATE").await?;
                Ok(Transaction(Inner::Sqlite { inner, writer: Some(permit) }))
            }
        }
    }

    /// A transaction that only reads, and sees one moment however many statements it runs.
    pub async fn read(&self) -> Result<Transaction, Error> {
        match self {
            Self::Postgres(pool) => {
                let inner = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
                Ok(Transaction(Inner::Postgres(inner)))
            }
            Self::Sqlite { pool, .. } => {
                Ok(Transaction(Inner::Sqlite { inner: pool.begin_with("BEGIN DEFERRED").await?, writer: None }))
            }
        }
    }

    /// What [`run!`] takes: each statement on its own connection, committed at once.
    pub fn connection(&self) -> Connection<&PgPool, &SqlitePool> {
        match self {
            Self::Postgres(pool) => Connection::Postgres(pool),
            Self::Sqlite { pool, .. } => Connection::Sqlite(pool),
        }
    }

    /// Tells other control planes on the same store that a revision moved. Postgres only; called after commit, never
    /// within a transaction (that serialises all writers on the notification queue).
    pub async fn announce(&self) -> Result<(), Error> {
        match self {
            Self::Postgres(pool) => {
                sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(pool).await?;
                Ok(())
            }
            Self::Sqlite { .. } => Ok(()),
        }
    }

    /// Waits for other control planes' announcements. `None` on SQLite, which has no others.
    pub async fn announcements(&self) -> Result<Option<Announcements>, Error> {
        match self {
            Self::Postgres(pool) => {
                let mut listener = PgListener::connect_with(pool).await?;
                listener.listen(CHANNEL).await?;
                Ok(Some(Announcements(listener)))
            }
            Self::Sqlite { .. } => Ok(None),
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        run!(self, connection => sqlx::query_scalar::<_, i64>("SELECT CAST(1 AS BIGINT)").fetch_one(connection).await)?;
        Ok(())
    }

    /// Closes every connection, after those in use came back.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite { pool, .. } => pool.close().await,
        }
    }

    /// For the start-up line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite { .. } => "sqlite",
        }
    }
}

/// Announcements of other control planes.
#[derive(Debug)]
pub struct Announcements(PgListener);

impl Announcements {
    /// Returns at the next announcement, and also after a reconnect, when some may have been missed.
    pub async fn next(&mut self) -> Result<(), Error> {
        self.0.try_recv().await?;
        Ok(())
    }
}

/// A transaction of either engine; rolled back when dropped.
#[derive(Debug)]
pub struct Transaction(Inner);

#[derive(Debug)]
enum Inner {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    Sqlite { inner: sqlx::Transaction<'static, sqlx::Sqlite>, writer: Option<OwnedSemaphorePermit> },
}

impl Transaction {
    /// What [`run!`] takes.
    pub fn connection(&mut self) -> Connection<&mut PgConnection, &mut SqliteConnection> {
        match &mut self.0 {
            Inner::Postgres(inner) => Connection::Postgres(&mut **inner),
            Inner::Sqlite { inner, .. } => Connection::Sqlite(&mut **inner),
        }
    }

    /// Makes everything in it visible, at once.
    pub async fn commit(self) -> Result<(), Error> {
        match self.0 {
            Inner::Postgres(inner) => inner.commit().await?,
            Inner::Sqlite { inner, writer } => {
                inner.commit().await?;
                drop(writer);
            }
        }
        Ok(())
    }
}

/// The one place where a database's failure becomes ours: away is `Unavailable` (never "unauthenticated"), the rest is
/// a defect. Violations of constraints that a caller can act on are asked for with [`violates_unique`] first.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => true,
            // Postgres: connection exceptions, insufficient resources, operator intervention, read-only after a
            // failover. SQLite: busy, locked, read-only, I/O error, full, cannot open (primary result codes).
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                code.starts_with("08")
                    || code.starts_with("53")
                    || code.starts_with("57")
                    || code == "25006"
                    || code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
                        && code.len() != 5
            }),
            _ => false,
        };
        if away { Self::Unavailable(Internal::new(error)) } else { Self::Internal(Internal::new(error)) }
    }
}

/// Whether a statement failed because a unique index already has that value.
pub fn violates_unique(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_unique_violation())
}

/// Whether a statement failed because another row still points here, or the row pointed to is gone.
pub fn violates_reference(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_foreign_key_violation())
}
