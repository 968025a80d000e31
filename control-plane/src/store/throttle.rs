//! The sign-in throttle: failures per account and per address, kept so that a restart forgives nobody.
//!
//! An attempt is counted *before* the password is looked at, in one transaction, so that a thousand attempts at one time
//! count as a thousand; a success takes the account's count back. Nobody is ever shut out for good.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::engine::{Engine, Transaction, execute, run};
use crate::model::error::Error;

/// From this failure on an account waits.
const ACCOUNT_FREE: i64 = 5;
/// From this failure on an address waits. Higher: an office shares one.
const ADDRESS_FREE: i64 = 30;
/// The longest wait.
const LONGEST: Duration = Duration::minutes(15);
/// After this long without an attempt, the count starts anew.
const FORGET: Duration = Duration::hours(1);

/// Whose failures are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    account: Option<String>,
    address: String,
}

impl Subjects {
    /// An account by its email (lower case, whether or not it exists) and an address.
    pub fn new(email: Option<&str>, address: std::net::IpAddr) -> Self {
        let address = match address.to_canonical() {
            std::net::IpAddr::V4(address) => format!("address:{address}"),
            // One customer has a whole /64.
            std::net::IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("address:{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        };
        Self { account: email.map(|email| format!("account:{email}")), address }
    }
}

/// Counts one attempt. `Throttled`, and not counted, while one of the subjects must wait.
pub async fn attempt(
    engine: &Engine,
    organization_id: Uuid,
    subjects: &Subjects,
    at: OffsetDateTime,
) -> Result<(), Error> {
    let mut transaction = engine.begin().await?;
    // Accounts before addresses, always: two attempts never wait for each other's row.
    if let Some(account) = &subjects.account {
        count(&mut transaction, organization_id, account, ACCOUNT_FREE, at).await?;
    }
    count(&mut transaction, organization_id, &subjects.address, ADDRESS_FREE, at).await?;
    transaction.commit().await
}

async fn count(
    transaction: &mut Transaction,
    organization_id: Uuid,
    subject: &str,
    free: i64,
    at: OffsetDateTime,
) -> Result<(), Error> {
    // The first statement takes the row; what it returns is as it was but for the count.
    let (failures, blocked_until, updated_at): (i64, Option<OffsetDateTime>, OffsetDateTime) = run!(transaction, connection => sqlx::query_as(
                "INSERT INTO login_throttle (organization_id, subject, failures, updated_at) VALUES ($1, $2, 1, $3) \
                 ON CONFLICT (organization_id, subject) DO UPDATE SET failures = login_throttle.failures + 1 \
                 RETURNING failures, blocked_until, updated_at",
            )
            .bind(organization_id).bind(subject).bind(at).fetch_one(connection).await)?;
    if let Some(until) = blocked_until.filter(|until| at < *until) {
        let wait = std::time::Duration::try_from(until - at).unwrap_or_default();
        return Err(Error::Throttled { retry_after: wait + std::time::Duration::from_millis(999) });
    }
    let failures = if at - updated_at >= FORGET { 1 } else { failures };
    let blocked_until = wait_after(failures, free).map(|wait| at + wait);
    run!(transaction, connection => sqlx::query(
            "UPDATE login_throttle SET failures = $3, blocked_until = $4, updated_at = $5 \
             WHERE organization_id = $1 AND subject = $2",
        )
        .bind(organization_id).bind(subject).bind(failures).bind(blocked_until).bind(at)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}

/// One second after the first failure that is not free, doubling.
fn wait_after(failures: i64, free: i64) -> Option<Duration> {
    if failures < free {
        return None;
    }
    // 2^10 seconds is beyond the longest wait already.
    let doublings = u32::try_from(failures - free).unwrap_or(u32::MAX).min(10);
    Some(Duration::seconds(1 << doublings).min(LONGEST))
}

/// The attempt was right: the account's count is taken back whole, the address's by this one attempt alone, or whoever
/// knows one password could try others without end.
pub async fn succeeded(engine: &Engine, organization_id: Uuid, subjects: &Subjects) -> Result<(), Error> {
    if let Some(account) = &subjects.account {
        execute!(
            engine,
            sqlx::query("DELETE FROM login_throttle WHERE organization_id = $1 AND subject = $2")
                .bind(organization_id)
                .bind(account)
        )?;
    }
    execute!(
        engine,
        sqlx::query(
            "UPDATE login_throttle SET failures = failures - 1 \
             WHERE organization_id = $1 AND subject = $2 AND failures > 0",
        )
        .bind(organization_id)
        .bind(&subjects.address)
    )?;
    Ok(())
}

/// Drops what is forgotten anyway, so that made-up accounts do not fill the store.
pub async fn sweep(engine: &Engine, at: OffsetDateTime) -> Result<u64, Error> {
    let rows: Vec<(Uuid, String, OffsetDateTime)> = run!(engine, connection =>
        sqlx::query_as("SELECT organization_id, subject, updated_at FROM login_throttle").fetch_all(connection).await)?;
    let mut dropped = 0;
    for (organization_id, subject, updated_at) in rows {
        if at - updated_at < FORGET {
            continue;
        }
        dropped += run!(engine, connection => sqlx::query(
                "DELETE FROM login_throttle WHERE organization_id = $1 AND subject = $2 AND updated_at = $3",
            )
            .bind(organization_id).bind(&subject).bind(updated_at)
            .execute(connection).await.map(|done| done.rows_affected()))?;
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_the_fifth_failure_and_has_an_end() {
        let waits: Vec<_> =
            (1..=16).map(|failures| wait_after(failures, 5).map_or(0, Duration::whole_seconds)).collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(wait_after(1_000_000, 5), Some(LONGEST));
    }

    #[test]
    fn an_address_of_version_six_counts_by_its_network() {
        let of = |text: &str| Subjects::new(None, text.parse().unwrap()).address;
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
