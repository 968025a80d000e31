//! The one way to change configuration: a transaction that raises the organization's revision, writes rows, notes in
//! the change log what it touched, appends the audit entry, commits, and only then wakes whoever follows.
//!
//! The revision is raised *first*: the organization's row stays locked until the commit, so writers of one organization
//! queue. That gives two things at once: revision N+1 cannot exist before N is visible (no follower ever skips one),
//! and checks that span rows (overlapping contexts, "is it deployed there") still hold when the change commits.

use time::OffsetDateTime;
use uuid::Uuid;

use super::engine::{Connection, Transaction, execute, run};
use super::{Store, audit, microseconds, now};
use crate::model::error::{Error, Internal};

/// Who changes something, in which organization, within which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The organization whose rows may be touched.
    pub organization_id: Uuid,
    /// What kind of actor.
    pub kind: AuthorKind,
    /// The user's or token's id; none for the system.
    pub id: Option<Uuid>,
    /// The request that asked for it.
    pub request_id: Option<Uuid>,
}

impl Author {
    /// The control plane itself, e.g. at start-up.
    pub fn system(organization_id: Uuid) -> Self {
        Self { organization_id, kind: AuthorKind::System, id: None, request_id: None }
    }

    /// For people: a typed id, or `system`.
    pub fn label(&self) -> String {
        match (self.kind, self.id) {
            (AuthorKind::User, Some(id)) => crate::model::id::UserId(id).to_string(),
            (AuthorKind::Token, Some(id)) => crate::model::id::TokenId(id).to_string(),
            (kind, _) => kind.as_str().to_owned(),
        }
    }
}

/// Kinds of actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorKind {
    /// The control plane itself.
    System,
    /// A signed-in member.
    User,
    /// A personal access token.
    Token,
    /// Nobody yet, e.g. a failed sign-in.
    Anonymous,
}

impl AuthorKind {
    /// As the audit table has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Token => "token",
            Self::Anonymous => "anonymous",
        }
    }
}

/// What a node's configuration consists of; the wire's kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A gateway's own settings; the id is the gateway's.
    Settings,
    /// A template.
    Template,
    /// A provider or proxy as deployed.
    Endpoint,
    /// An API key.
    ApiKey,
    /// A secret.
    Secret,
    /// Prices of a template or a provider.
    Prices,
}

impl Kind {
    /// As the change log has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Template => "template",
            Self::Endpoint => "endpoint",
            Self::ApiKey => "api_key",
            Self::Secret => "secret",
            Self::Prices => "prices",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Settings, Self::Template, Self::Endpoint, Self::ApiKey, Self::Secret, Self::Prices]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// What became of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It is there, new or changed.
    Put,
    /// It is gone.
    Remove,
}

impl Op {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Remove => "remove",
        }
    }
}

/// A configuration transaction under way; dropped without [`Self::commit`], nothing happened.
#[derive(Debug)]
pub struct Change<'s> {
    store: &'s Store,
    author: Author,
    transaction: Transaction,
    revision: i64,
    at: OffsetDateTime,
    touched: Vec<(Kind, Uuid, Op, bool)>,
}

/// A change that everyone can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The organization's revision that it made.
    pub revision: i64,
    /// When.
    pub at: OffsetDateTime,
}

impl<'s> Change<'s> {
    /// Waits for the organization's other writers, then owns its next revision.
    pub async fn begin(store: &'s Store, author: &Author) -> Result<Self, Error> {
        let mut transaction = store.engine().begin().await?;
        let revision: Option<i64> = run!(transaction, connection =>
            sqlx::query_scalar("UPDATE organization SET revision = revision + 1 WHERE id = $1 RETURNING revision")
                .bind(author.organization_id).fetch_optional(connection).await)?;
        let revision = revision.ok_or_else(|| Error::Internal(Internal::message("the organization is gone")))?;
        // Taken after the lock, so that times follow revisions.
        Ok(Self { store, author: author.clone(), transaction, revision, at: now(), touched: Vec::new() })
    }

    /// The revision that this change makes; what every row it writes is stamped with.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// When; what every row it writes is dated with.
    pub const fn at(&self) -> OffsetDateTime {
        self.at
    }

    /// Whose rows may be touched.
    pub const fn organization_id(&self) -> Uuid {
        self.author.organization_id
    }

    /// Who changes it.
    pub const fn author(&self) -> &Author {
        &self.author
    }

    /// For reading and writing rows within the change.
    pub fn transaction(&mut self) -> &mut Transaction {
        &mut self.transaction
    }

    /// What `run!` takes.
    pub fn connection(&mut self) -> Connection<&mut sqlx::PgConnection, &mut sqlx::SqliteConnection> {
        self.transaction.connection()
    }

    /// Notes that a resource is new or changed.
    pub fn put(&mut self, kind: Kind, id: Uuid) {
        self.touch(kind, id, Op::Put, false);
    }

    /// Notes that a resource is new or changed in a way that takes something away (revoked, disabled).
    pub fn put_urgent(&mut self, kind: Kind, id: Uuid) {
        self.touch(kind, id, Op::Put, true);
    }

    /// Notes that a resource is gone. Removals never wait.
    pub fn remove(&mut self, kind: Kind, id: Uuid) {
        self.touch(kind, id, Op::Remove, true);
    }

    fn touch(&mut self, kind: Kind, id: Uuid, op: Op, urgent: bool) {
        match self.touched.iter_mut().find(|(k, i, ..)| *k == kind && *i == id) {
            Some(entry) => *entry = (kind, id, op, entry.3 || urgent),
            None => self.touched.push((kind, id, op, urgent)),
        }
    }

    /// Writes change log and audit entry, commits, and wakes the followers.
    pub async fn commit(mut self, entry: audit::Entry) -> Result<Committed, Error> {
        let committed_at = microseconds(self.at);
        for (kind, id, op, urgent) in std::mem::take(&mut self.touched) {
            execute!(
                self.transaction,
                sqlx::query(
                    "INSERT INTO change_log \
                     (organization_id, revision, kind, resource_id, op, urgent, committed_at_us) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(self.author.organization_id)
                .bind(self.revision)
                .bind(kind.as_str())
                .bind(id)
                .bind(op.as_str())
                .bind(urgent)
                .bind(committed_at)
            )?;
        }
        audit::append(&mut self.transaction, &self.author, self.at, &entry).await?;
        self.transaction.commit().await?;
        self.store.committed();
        Ok(Committed { revision: self.revision, at: self.at })
    }
}
