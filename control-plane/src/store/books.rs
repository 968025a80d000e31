//! Whether the ledger balances: how far each process of a node is counted, what it says of itself, and the sums against
//! the records they were made of.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, types::Uuid};
use time::OffsetDateTime;

use super::{Transaction, engine::run, period};
use crate::model::{
    books::{Books, BootAudit, SumAudit, UsageAudit},
    error::{Error, Internal},
    usage::{Batch, Kept},
};

const HOUR_US: i64 = 3_600_000_000;
/// Ids are made at the time of the start, by the same clock; a day is far more than enough.
const SLACK_US: i64 = 24 * HOUR_US;

/// Notes what a batch brought, in the transaction that counts it.
pub(super) async fn note(transaction: &mut Transaction, batch: &Batch, missing: i64, known: i64) -> Result<(), Error> {
    let received = i64::try_from(batch.records.len()).unwrap_or(i64::MAX) + batch.unreadable;
    let books = batch.books.as_ref();
    run!(transaction, connection => sqlx::query(
            "UPDATE usage_cursor SET batches = batches + 1, missing = missing + $1, received = received + $2, \
             unreadable = unreadable + $3, known = known + $4, started = $5, settled = $6, in_flight = $7, \
             unsettled = $8, lost = $9, numbered = $10 WHERE gateway_id = $11 AND boot = $12",
        )
        .bind(missing).bind(received).bind(batch.unreadable).bind(known)
        .bind(books.map(|books| books.started)).bind(books.map(|books| books.settled))
        .bind(books.map(|books| books.in_flight)).bind(books.map(|books| books.unsettled))
        .bind(books.map(|books| books.lost)).bind(books.map(|books| books.records))
        .bind(batch.gateway_id).bind(batch.boot).execute(connection).await.map(|_| ()))?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct CursorRow {
    gateway_id: Uuid,
    boot: Uuid,
    node: String,
    updated_at_us: i64,
    batches: i64,
    missing: i64,
    received: i64,
    unreadable: i64,
    known: i64,
    started: Option<i64>,
    settled: Option<i64>,
    in_flight: Option<i64>,
    unsettled: Option<i64>,
    lost: Option<i64>,
    numbered: Option<i64>,
}

impl CursorRow {
    fn books(&self) -> Option<Books> {
        Some(Books {
            started: self.started?,
            settled: self.settled?,
            in_flight: self.in_flight?,
            unsettled: self.unsettled?,
            lost: self.lost?,
            records: self.numbered?,
        })
    }
}

#[derive(sqlx::FromRow)]
struct Totals {
    minute_requests: i64,
    minute_input: i64,
    minute_output: i64,
    hour_requests: i64,
    hour_input: i64,
    hour_output: i64,
    total_requests: i64,
    total_input: i64,
    total_output: i64,
    /// Of the time that the log has.
    logged_requests: i64,
    logged_input: i64,
    logged_output: i64,
    records: i64,
    input: i64,
    output: i64,
    unlogged: i64,
    unlogged_input: i64,
    unlogged_output: i64,
    unsettled: i64,
}

/// Since when there is everything that two kinds of rows are compared by; at most the end of the time.
async fn both(transaction: &mut Transaction, kinds: [Kept; 2], from_us: i64, to_us: i64) -> Result<i64, Error> {
    let mut since = from_us;
    for kind in kinds {
        // Nothing of the kind is kept: there is nothing to compare.
        since = since.max(period::since(transaction, kind).await?.unwrap_or(to_us));
    }
    Ok((since + (-since).rem_euclid(HOUR_US)).min(to_us))
}

/// Compares everything, over whole hours.
pub async fn audit(
    transaction: &mut Transaction,
    organization_id: Uuid,
    from_us: i64,
    to_us: i64,
) -> Result<UsageAudit, Error> {
    let from_us = from_us - from_us.rem_euclid(HOUR_US);
    let to_us = to_us + (-to_us).rem_euclid(HOUR_US);
    let gateways: Vec<(Uuid, String)> = run!(transaction, connection =>
        sqlx::query_as("SELECT id, name FROM gateway WHERE organization_id = $1")
            .bind(organization_id).fetch_all(connection).await)?;
    let gateways: BTreeMap<Uuid, String> = gateways.into_iter().collect();
    let rows: Vec<CursorRow> = run!(transaction, connection => sqlx::query_as(
            "SELECT gateway_id, boot, node, updated_at_us, batches, missing, received, unreadable, known, started, \
             settled, in_flight, unsettled, lost, numbered FROM usage_cursor \
             WHERE organization_id = $1 AND updated_at_us >= $2 ORDER BY updated_at_us DESC, boot",
        )
        .bind(organization_id).bind(from_us).fetch_all(connection).await)?;
    let boots = rows.into_iter().map(|row| {
        let mut boot = BootAudit {
            gateway: gateways.get(&row.gateway_id).cloned().unwrap_or_else(|| row.gateway_id.to_string()),
            books: row.books(),
            node: row.node,
            boot: row.boot,
            at: time_of(row.updated_at_us)?,
            batches: row.batches,
            missing: row.missing,
            records: row.received,
            unreadable: row.unreadable,
            known: row.known,
            wrong: Vec::new(),
        };
        boot.judge();
        Ok(boot)
    });
    let boots = boots.collect::<Result<Vec<_>, Error>>()?;
    let totals = totals(transaction, organization_id, from_us, to_us).await?;
    let sums: Vec<SumAudit> = [
        ("requests by minute, against the hours", totals.minute_requests, totals.hour_requests),
        ("input tokens by minute, against the hours", totals.minute_input, totals.hour_input),
        ("output tokens by minute, against the hours", totals.minute_output, totals.hour_output),
        ("requests of all together by hour, against the hours", totals.total_requests, totals.hour_requests),
        ("input tokens of all together by hour, against the hours", totals.total_input, totals.hour_input),
        ("output tokens of all together by hour, against the hours", totals.total_output, totals.hour_output),
        ("requests by hour, against the records", totals.logged_requests, totals.records + totals.unlogged),
        ("input tokens by hour, against the records", totals.logged_input, totals.input + totals.unlogged_input),
        ("output tokens by hour, against the records", totals.logged_output, totals.output + totals.unlogged_output),
    ]
    .map(|(name, counted, expected)| SumAudit { name: name.to_owned(), counted, expected })
    .into();
    let balanced = boots.iter().all(|boot| boot.wrong.is_empty()) && sums.iter().all(|sum| sum.counted == sum.expected);
    let (from, to) = (time_of(from_us)?, time_of(to_us)?);
    Ok(UsageAudit { from, to, boots, sums, unsettled: totals.unsettled, unlogged: totals.unlogged, balanced })
}

/// In one statement, which sees one moment: batches are counted meanwhile.
async fn totals(
    transaction: &mut Transaction,
    organization_id: Uuid,
    from_us: i64,
    to_us: i64,
) -> Result<Totals, Error> {
    // What is over is dropped, of one kind sooner than of another: only what both have is compared.
    let summed_us = both(transaction, [Kept::Minutes, Kept::Hours], from_us, to_us).await?;
    let logged_us = both(transaction, [Kept::Requests, Kept::Hours], from_us, to_us).await?;
    let sum = |column: &str, grain: &str, since: &str, name: &str| {
        let of = format!("CASE WHEN grain = '{grain}' AND start_us >= {since} THEN {column} END");
        format!("CAST(COALESCE(SUM({of}), 0) AS BIGINT) AS {name}")
    };
    let columns = [("requests", "requests"), ("input_tokens", "input"), ("output_tokens", "output")];
    let sums =
        [("minute", "minute", "$6"), ("hour", "hour", "$6"), ("logged", "hour", "$7")].map(|(name, grain, since)| {
            columns.map(|(column, short)| sum(column, grain, since, &format!("{name}_{short}"))).join(", ")
        });
    let sql = format!(
        "SELECT * FROM (SELECT {} FROM usage_rollup WHERE organization_id = $1 AND grain IN ('minute', 'hour') \
         AND start_us >= $2 AND start_us < $3) AS sums, \
         (SELECT {} FROM usage_total WHERE organization_id = $1 AND grain = 'hour' \
         AND start_us >= $6 AND start_us < $3) AS whole, \
         (SELECT COUNT(*) AS records, CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT) AS input, \
         CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT) AS output \
         FROM usage_record WHERE organization_id = $1 AND id >= $4 AND id < $5 AND started_at_us >= $7 \
         AND started_at_us < $3) AS made, \
         (SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS unlogged, \
         CAST(COALESCE(SUM(input_tokens), 0) AS BIGINT) AS unlogged_input, \
         CAST(COALESCE(SUM(output_tokens), 0) AS BIGINT) AS unlogged_output \
         FROM usage_unlogged WHERE organization_id = $1 AND start_us >= $7 AND start_us < $3) AS apart, \
         (SELECT COUNT(*) AS unsettled FROM usage_record WHERE organization_id = $1 AND id >= $4 AND id < $5 \
         AND started_at_us >= $2 AND started_at_us < $3 AND unsettled) AS open",
        sums.join(", "),
        columns.map(|(column, short)| sum(column, "hour", "$6", &format!("total_{short}"))).join(", "),
    );
    Ok(run!(transaction, connection => sqlx::query_as(AssertSqlSafe(sql))
        .bind(organization_id).bind(from_us).bind(to_us).bind(id_at(from_us - SLACK_US)).bind(id_at(to_us + SLACK_US))
        .bind(summed_us).bind(logged_us).fetch_one(connection).await)?)
}

/// The smallest id of that time.
fn id_at(us: i64) -> Uuid {
    let milliseconds = u64::try_from(us / 1_000).unwrap_or_default();
    Uuid::from_u128(u128::from(milliseconds) << 80)
}

fn time_of(us: i64) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000)
        .map_err(|error| Error::Internal(Internal::new(error)))
}
