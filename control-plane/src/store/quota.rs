//! Budgets that are granted before they are spent, and who grants shares.

use sqlx::types::Uuid;

use super::engine::run;
use super::{Store, Transaction};
use crate::model::error::Error;

/// A rule's period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The tenant.
    pub organization_id: Uuid,
    /// Digest of the rule.
    pub rule: [u8; 16],
    /// Unix milliseconds of the period's end.
    pub period_ms: i64,
}

/// What a process has of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// All in all, spent or not.
    pub granted: i64,
    /// Raised by every change; 0: it has nothing.
    pub version: i64,
}

/// What becomes of a holding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// Spent beyond what was granted, for it was known too late: counted whatever the limit.
    pub debt: i64,
    /// Granted on top, within the limit or not at all.
    pub more: i64,
    /// Not spent, and given back.
    pub back: i64,
}

/// How a budget stands after a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of all processes.
    pub granted: i64,
    /// Of the one that asked.
    pub holding: Holding,
}

/// Moves budget between the rest and one process. `decide` sees what all have and what the process has. Nothing is
/// granted beyond `limit`, whoever else asks at this moment; the caller commits before it answers.
pub async fn draw(
    transaction: &mut Transaction,
    place: Place,
    (boot, node): (Uuid, &str),
    (limit, spent): (i64, i64),
    decide: impl FnOnce(i64, Holding) -> Move,
) -> Result<Standing, Error> {
    let Place { organization_id, rule, period_ms } = place;
    let rule = rule.as_slice();
    // The first statement takes the row.
    let granted: i64 = run!(transaction, connection => sqlx::query_scalar(
            "INSERT INTO quota_budget (organization_id, rule, period_ms, granted) VALUES ($1, $2, $3, 0) \
             ON CONFLICT (organization_id, rule, period_ms) DO UPDATE SET granted = quota_budget.granted \
             RETURNING granted",
        )
        .bind(organization_id).bind(rule).bind(period_ms).fetch_one(connection).await)?;
    let holding: Option<(i64, i64)> = run!(transaction, connection => sqlx::query_as(
            "SELECT granted, version FROM quota_holding \
             WHERE organization_id = $1 AND rule = $2 AND period_ms = $3 AND boot = $4",
        )
        .bind(organization_id).bind(rule).bind(period_ms).bind(boot).fetch_optional(connection).await)?;
    let holding = holding.map_or_else(Holding::default, |(granted, version)| Holding { granted, version });
    let Move { debt, more, back } = decide(granted, holding);
    if debt == 0 && more == 0 && back == 0 {
        return Ok(Standing { granted, holding });
    }
    let certain = debt - back;
    let mut standing: i64 = run!(transaction, connection => sqlx::query_scalar(
            "UPDATE quota_budget SET granted = granted + $4 \
             WHERE organization_id = $1 AND rule = $2 AND period_ms = $3 RETURNING granted",
        )
        .bind(organization_id).bind(rule).bind(period_ms).bind(certain).fetch_one(connection).await)?;
    let mut change = certain;
    if more > 0 {
        let raised: Option<i64> = run!(transaction, connection => sqlx::query_scalar(
                "UPDATE quota_budget SET granted = granted + $4 \
                 WHERE organization_id = $1 AND rule = $2 AND period_ms = $3 AND granted + $4 <= $5 RETURNING granted",
            )
            .bind(organization_id).bind(rule).bind(period_ms).bind(more).bind(limit).fetch_optional(connection).await)?;
        if let Some(raised) = raised {
            (standing, change) = (raised, change + more);
        }
    }
    let next = Holding { granted: holding.granted + change, version: holding.version + 1 };
    run!(transaction, connection => sqlx::query(
            "INSERT INTO quota_holding (organization_id, rule, period_ms, boot, node, granted, spent, version) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (organization_id, rule, period_ms, boot) \
             DO UPDATE SET granted = excluded.granted, spent = excluded.spent, version = excluded.version",
        )
        .bind(organization_id).bind(rule).bind(period_ms).bind(boot).bind(node)
        .bind(next.granted).bind(spent).bind(next.version)
        .execute(connection).await.map(|_| ()))?;
    Ok(Standing { granted: standing, holding: next })
}

/// Forgets the budgets of periods that ended before this moment.
pub async fn forget(store: &Store, before_ms: i64) -> Result<(), Error> {
    run!(store.engine(), connection => sqlx::query("DELETE FROM quota_holding WHERE period_ms < $1")
        .bind(before_ms).execute(connection).await.map(|_| ()))?;
    run!(store.engine(), connection => sqlx::query("DELETE FROM quota_budget WHERE period_ms < $1")
        .bind(before_ms).execute(connection).await.map(|_| ()))?;
    Ok(())
}

/// Who grants shares, and how often that was renewed; `None`: nobody ever has.
pub async fn leader(store: &Store) -> Result<Option<(Uuid, i64)>, Error> {
    Ok(run!(store.engine(), connection => sqlx::query_as(
            "SELECT holder, renewals FROM quota_leader WHERE organization_id = $1",
        )
        .bind(store.first_organization()).fetch_optional(connection).await)?)
}

/// Makes `holder` the one who grants shares, where nobody ever has. Whether it is now.
pub async fn lead_first(store: &Store, holder: Uuid) -> Result<bool, Error> {
    let made: u64 = run!(store.engine(), connection => sqlx::query(
            "INSERT INTO quota_leader (organization_id, holder, renewals) VALUES ($1, $2, 1) \
             ON CONFLICT (organization_id) DO NOTHING",
        )
        .bind(store.first_organization()).bind(holder)
        .execute(connection).await.map(|done| done.rows_affected()))?;
    Ok(made == 1)
}

/// Makes or keeps `holder` the one who grants shares, if the row still stands as it was seen. Whether it is now.
pub async fn lead(store: &Store, holder: Uuid, (seen, renewals): (Uuid, i64)) -> Result<bool, Error> {
    let moved: u64 = run!(store.engine(), connection => sqlx::query(
            "UPDATE quota_leader SET holder = $2, renewals = $5 \
             WHERE organization_id = $1 AND holder = $3 AND renewals = $4",
        )
        .bind(store.first_organization()).bind(holder).bind(seen).bind(renewals).bind(renewals.max(0) + 1)
        .execute(connection).await.map(|done| done.rows_affected()))?;
    Ok(moved == 1)
}

/// Lets another take over at once.
pub async fn resign(store: &Store, holder: Uuid) -> Result<(), Error> {
    run!(store.engine(), connection => sqlx::query(
            "UPDATE quota_leader SET renewals = 0 WHERE organization_id = $1 AND holder = $2",
        )
        .bind(store.first_organization()).bind(holder)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}
