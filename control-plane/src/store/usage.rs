//! The ledger: records of usage, their sums by minute, hour and day, and how far each node's batches are counted.

use std::collections::{BTreeMap, HashSet};

use sqlx::{
    AssertSqlSafe,
    types::{Json, Uuid},
};
use time::OffsetDateTime;

use super::period::{self, Period};
use super::unlogged::Unlogged;
use super::usage_total::Totals;
use super::{Store, Transaction, books, engine::run, microseconds, now};
use crate::model::{
    error::Error,
    usage::{Batch, Kept, Outcome, Record, Retention},
};

/// What became of a batch. Committed in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// Counted now; so many batches before it never came.
    New {
        /// Numbers skipped since the last batch of this process.
        missing: i64,
    },
    /// Counted before: a resend.
    Before,
}

/// What is kept of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// For how long anything is.
    pub retention: Retention,
    /// Unix microseconds.
    pub now_us: i64,
    /// Records that may go into the log; the sums take all.
    pub logged: usize,
}

/// A node's clock may be ahead by a day; what is beyond began when it arrived.
const AHEAD_US: i64 = 86_400_000_000;

impl Keep {
    /// When a record counts.
    fn at(&self, record: &Record) -> i64 {
        if record.started_at_us > self.now_us.saturating_add(AHEAD_US) { self.now_us } else { record.started_at_us }
    }

    /// The period a record lies in, unless that is over.
    fn period(&self, kind: Kept, record: &Record) -> Option<Period> {
        let period = Period::of(kind, self.at(record));
        (period.end_us > self.retention.cut_us(kind, self.now_us)).then_some(period)
    }
}

/// Counts a batch: moves the node's cursor, inserts the records and raises the sums, all or nothing. Counting the same
/// batch again changes nothing. A record whose time is over is counted in those sums that are still kept.
pub async fn ingest(store: &Store, batch: &Batch, keep: &Keep) -> Result<Ingested, Error> {
    let mut logs: BTreeMap<Period, Vec<&Record>> = BTreeMap::new();
    let mut counted: Vec<&Record> = Vec::new();
    let (mut sums, mut totals, mut unlogged) = (BTreeMap::new(), Totals::default(), Unlogged::default());
    let mut over = 0_usize;
    for (index, record) in batch.records.iter().enumerate() {
        // Evenly over the batch, where not all may be logged.
        let share = |index: usize| index * keep.logged.min(batch.records.len()) / batch.records.len();
        let logged = share(index) < share(index + 1);
        if let Some(period) = keep.period(Kept::Requests, record).filter(|_| logged) {
            logs.entry(period).or_default().push(record);
        } else {
            unlogged.add(keep.at(record), record);
            counted.push(record);
        }
        over += usize::from(keep.period(Kept::Days, record).is_none());
    }
    if over > 0 {
        tracing::warn!(node.name = batch.node, over, "records of usage came after the time for which any are kept");
    }
    let sums_of = batch.records.iter().flat_map(|record| GRAINS.map(|kind| keep.period(kind, record)));
    period::ensure(store, logs.keys().cloned().chain(sums_of.flatten()).collect()).await?;
    let mut transaction = store.engine().begin().await?;
    let Some(missing) = move_cursor(&mut transaction, batch).await? else { return Ok(Ingested::Before) };
    for (period, records) in &logs {
        let table = period.table(store.engine());
        for piece in period::pieces(records) {
            let mut new: HashSet<Uuid> =
                insert(&mut transaction, batch, keep, (table, piece)).await?.into_iter().collect();
            // Taken out, so that a record that is there twice counts once.
            counted.extend(piece.iter().filter(|record| new.remove(&record.id)));
        }
    }
    let known = i64::try_from(batch.records.len() - counted.len()).unwrap_or_default();
    for record in counted {
        add((&mut sums, &mut totals), keep, record);
    }
    // In the order of their keys, so that two batches at once cannot wait for each other.
    let rows: Vec<(&SumKey, &Sum)> = sums.iter().collect();
    for of_period in rows.chunk_by(|one, other| one.0.period == other.0.period) {
        let table = of_period.first().map_or("", |(key, _)| key.period.table(store.engine()));
        for piece in period::pieces(of_period) {
            raise(&mut transaction, batch.organization_id, table, piece).await?;
        }
    }
    totals.store(&mut transaction, batch.organization_id).await?;
    note_last_use(&mut transaction, batch).await?;
    books::note(&mut transaction, batch, missing, known).await?;
    unlogged.store(&mut transaction, batch.organization_id).await?;
    transaction.commit().await?;
    Ok(Ingested::New { missing })
}

/// How many numbers were skipped; `None`: counted before. Holds the cursor's row until the commit.
async fn move_cursor(transaction: &mut Transaction, batch: &Batch) -> Result<Option<i64>, Error> {
    run!(transaction, connection => sqlx::query(
            "INSERT INTO usage_cursor (organization_id, gateway_id, boot, node, seq, updated_at_us) \
             VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (gateway_id, boot) DO NOTHING",
        )
        .bind(batch.organization_id).bind(batch.gateway_id).bind(batch.boot).bind(&batch.node)
        .bind(microseconds(now())).execute(connection).await.map(|_| ()))?;
    // Locks the row on Postgres; SQLite has one writer anyway.
    let before: i64 = run!(transaction, connection => sqlx::query_scalar(
            "UPDATE usage_cursor SET updated_at_us = $1 WHERE gateway_id = $2 AND boot = $3 RETURNING seq",
        )
        .bind(microseconds(now())).bind(batch.gateway_id).bind(batch.boot).fetch_one(connection).await)?;
    if batch.seq <= before {
        return Ok(None);
    }
    run!(transaction, connection => sqlx::query(
            "UPDATE usage_cursor SET seq = $1 WHERE gateway_id = $2 AND boot = $3",
        )
        .bind(batch.seq).bind(batch.gateway_id).bind(batch.boot).execute(connection).await.map(|_| ()))?;
    Ok(Some(batch.seq - before - 1))
}

/// What a row of the log holds, in the order in which [`insert`] binds it.
const COLUMNS: [&str; 41] = [
    "organization_id",
    "id",
    "gateway_id",
    "node",
    "started_at_us",
    "endpoint_id",
    "provider_id",
    "api_key_id",
    "admitted",
    "outcome",
    "refusal",
    "status",
    "upstream_status",
    "requested_model",
    "served_model",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "duration_us",
    "first_byte_us",
    "streamed",
    "request_bytes",
    "response_bytes",
    "method",
    "path",
    "revision",
    "cost_nanos",
    "price_version",
    "unpriced",
    "denial",
    "attempts",
    "unsettled",
    "input_audio_tokens",
    "output_audio_tokens",
    "estimated",
    "first_token_us",
    "finish_reason",
    "tool_calls",
    "error_type",
];

/// Ids of those records that were not there yet.
async fn insert(
    transaction: &mut Transaction,
    batch: &Batch,
    keep: &Keep,
    (table, records): (&str, &[&Record]),
) -> Result<Vec<Uuid>, Error> {
    // The table's name is ours; see `Period`.
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES {} ON CONFLICT (organization_id, id) DO NOTHING RETURNING id",
        COLUMNS.join(", "),
        period::placeholders(records.len(), COLUMNS.len()),
    );
    Ok(run!(transaction, connection => {
        let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
        for record in records {
            let Record {
                id,
                started_at_us: _,
                endpoint_id,
                provider_id,
                api_key_id,
                admitted,
                outcome,
                refusal,
                status,
                upstream_status,
                requested_model,
                served_model,
                input_tokens,
                output_tokens,
                cached_input_tokens,
                cache_write_tokens,
                reasoning_tokens,
                duration_us,
                first_byte_us,
                streamed,
                request_bytes,
                response_bytes,
                method,
                path,
                revision,
                cost_nanos,
                price_version,
                unpriced,
                denial,
                attempts,
                unsettled,
                input_audio_tokens,
                output_audio_tokens,
                estimated,
                first_token_us,
                finish_reason,
                tool_calls,
                error_type,
            } = record;
            let attempts = (!attempts.is_empty()).then_some(Json(attempts));
            query = query
                .bind(batch.organization_id)
                .bind(id)
                .bind(batch.gateway_id)
                .bind(&batch.node)
                .bind(keep.at(record))
                .bind(endpoint_id)
                .bind(provider_id)
                .bind(api_key_id)
                .bind(admitted)
                .bind(outcome.as_str())
                .bind(refusal)
                .bind(status)
                .bind(upstream_status)
                .bind(requested_model)
                .bind(served_model)
                .bind(input_tokens)
                .bind(output_tokens)
                .bind(cached_input_tokens)
                .bind(cache_write_tokens)
                .bind(reasoning_tokens)
                .bind(duration_us)
                .bind(first_byte_us)
                .bind(streamed)
                .bind(request_bytes)
                .bind(response_bytes)
                .bind(method)
                .bind(path)
                .bind(revision)
                .bind(cost_nanos)
                .bind(price_version)
                .bind(unpriced)
                .bind(denial.as_ref().map(Json))
                .bind(attempts)
                .bind(unsettled)
                .bind(input_audio_tokens)
                .bind(output_audio_tokens)
                .bind(estimated)
                .bind(first_token_us)
                .bind(finish_reason)
                .bind(tool_calls)
                .bind(error_type);
        }
        query.fetch_all(connection).await
    })?)
}

const GRAINS: [Kept; 3] = [Kept::Minutes, Kept::Hours, Kept::Days];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SumKey {
    period: Period,
    start_us: i64,
    endpoint_id: Uuid,
    provider_id: Uuid,
    api_key_id: Uuid,
    model: String,
    outcome: &'static str,
}

/// The figures of a row, in the order of [`FIGURES`].
pub(super) type Sum = [i64; FIGURES.len()];

/// The columns that are added up.
pub(super) const FIGURES: [&str; 19] = [
    "requests",
    "refused",
    "errors",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "unknown_token_requests",
    "cost_nanos",
    "unpriced_requests",
    "unknown_cost_requests",
    "duration_us",
    "first_byte_us",
    "first_byte_requests",
    "first_token_us",
    "first_token_requests",
];

/// The columns that tell one row from another.
const GROUPS: [&str; 8] =
    ["organization_id", "grain", "start_us", "endpoint_id", "provider_id", "api_key_id", "model", "outcome"];

fn add((sums, totals): (&mut BTreeMap<SumKey, Sum>, &mut Totals), keep: &Keep, record: &Record) {
    // Of a request that never reached a vendor it is known that it used nothing.
    let unknown = record.admitted && (record.input_tokens.is_none() || record.output_tokens.is_none());
    let known = |count: Option<i64>| count.unwrap_or(0);
    let figures: Sum = [
        1,
        i64::from(record.outcome == Outcome::Refused),
        i64::from(record.outcome.is_error()),
        known(record.input_tokens),
        known(record.output_tokens),
        known(record.cached_input_tokens),
        known(record.cache_write_tokens),
        known(record.reasoning_tokens),
        known(record.input_audio_tokens),
        known(record.output_audio_tokens),
        i64::from(unknown),
        known(record.cost_nanos),
        i64::from(record.unpriced),
        i64::from(record.cost_nanos.is_none() && !record.unpriced),
        record.duration_us,
        known(record.first_byte_us),
        i64::from(record.first_byte_us.is_some()),
        known(record.first_token_us),
        i64::from(record.first_token_us.is_some()),
    ];
    for kind in GRAINS {
        let Some(period) = keep.period(kind, record) else { continue };
        let at_us = keep.at(record);
        let start_us = at_us - at_us.rem_euclid(kind.length_us());
        totals.add(kind, start_us, record, &figures);
        let key = SumKey {
            period,
            start_us,
            endpoint_id: record.endpoint_id,
            provider_id: record.provider_id.unwrap_or_default(),
            api_key_id: record.api_key_id,
            model: record.model().to_owned(),
            outcome: record.outcome.as_str(),
        };
        plus(sums.entry(key).or_default(), &figures);
    }
}

pub(super) fn plus(sum: &mut Sum, figures: &Sum) {
    for (sum, figure) in sum.iter_mut().zip(figures) {
        *sum = sum.saturating_add(*figure);
    }
}

/// The statement that adds so many rows to those that are there.
pub(super) fn raising(table: &str, groups: &[&str], rows: usize) -> String {
    let groups_text = groups.join(", ");
    format!(
        "INSERT INTO {table} ({groups_text}, {}) VALUES {} ON CONFLICT ({groups_text}) DO UPDATE SET {}",
        FIGURES.join(", "),
        period::placeholders(rows, groups.len() + FIGURES.len()),
        FIGURES.map(|figure| format!("{figure} = {table}.{figure} + excluded.{figure}")).join(", "),
    )
}

async fn raise(
    transaction: &mut Transaction,
    organization_id: Uuid,
    table: &str,
    rows: &[(&SumKey, &Sum)],
) -> Result<(), Error> {
    let sql = raising(table, &GROUPS, rows.len());
    run!(transaction, connection => {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (key, sum) in rows {
            let SumKey { period, start_us, endpoint_id, provider_id, api_key_id, model, outcome } = key;
            query = query
                .bind(organization_id)
                .bind(period.kind.as_str())
                .bind(start_us)
                .bind(endpoint_id)
                .bind(provider_id)
                .bind(api_key_id)
                .bind(model)
                .bind(*outcome);
            for figure in **sum {
                query = query.bind(figure);
            }
        }
        query.execute(connection).await.map(|_| ())
    })?;
    Ok(())
}

/// Keys show when they were last used. Moves with the newest batch; a node's clock is taken as it is.
async fn note_last_use(transaction: &mut Transaction, batch: &Batch) -> Result<(), Error> {
    let mut newest = BTreeMap::new();
    for record in &batch.records {
        let at = newest.entry(record.api_key_id).or_insert(record.started_at_us);
        *at = record.started_at_us.max(*at);
    }
    for (api_key_id, started_at_us) in newest {
        let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(started_at_us) * 1_000) else { continue };
        run!(transaction, connection => sqlx::query(
                "UPDATE api_key SET last_used_at = $1 WHERE organization_id = $2 AND id = $3",
            )
            .bind(at).bind(batch.organization_id).bind(api_key_id).execute(connection).await.map(|_| ()))?;
    }
    Ok(())
}
