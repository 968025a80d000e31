//! The ledger: records of usage, their sums by minute and hour, and how far each node's batches are counted.

use std::collections::BTreeMap;

use sqlx::{
    AssertSqlSafe,
    types::{Json, Uuid},
};
use time::OffsetDateTime;

use super::{Store, Transaction, books, engine::run, microseconds, now, request::Names};
use crate::model::{
    error::Error,
    usage::{Batch, Dimension, Interval, Outcome, Record, UsageSum},
};

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

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

/// Counts a batch: moves the node's cursor, inserts the records and raises the sums, all or nothing. Counting the same
/// batch again changes nothing.
pub async fn ingest(store: &Store, batch: &Batch) -> Result<Ingested, Error> {
    let mut transaction = store.engine().begin().await?;
    let Some(missing) = move_cursor(&mut transaction, batch).await? else { return Ok(Ingested::Before) };
    let mut sums = BTreeMap::new();
    let mut known = 0;
    for record in &batch.records {
        if insert(&mut transaction, batch, record).await? {
            add(&mut sums, record);
        } else {
            known += 1;
        }
    }
    // In the order of their keys, so that two batches at once cannot wait for each other.
    for (key, sum) in &sums {
        raise(&mut transaction, batch.organization_id, key, sum).await?;
    }
    note_last_use(&mut transaction, batch).await?;
    books::note(&mut transaction, batch, missing, known).await?;
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

/// `false`: this record was there already.
async fn insert(transaction: &mut Transaction, batch: &Batch, record: &Record) -> Result<bool, Error> {
    let Record {
        id,
        started_at_us,
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
    let inserted = run!(transaction, connection => sqlx::query(
            "INSERT INTO usage_record (organization_id, id, gateway_id, node, started_at_us, endpoint_id, \
             provider_id, api_key_id, admitted, outcome, refusal, status, upstream_status, requested_model, \
             served_model, input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, \
             duration_us, first_byte_us, streamed, request_bytes, response_bytes, method, path, revision, denial, \
             attempts, unsettled, input_audio_tokens, output_audio_tokens, estimated, first_token_us, finish_reason, \
             tool_calls, error_type) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
             $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38) \
             ON CONFLICT (organization_id, id) DO NOTHING",
        )
        .bind(batch.organization_id).bind(id).bind(batch.gateway_id).bind(&batch.node).bind(started_at_us)
        .bind(endpoint_id).bind(provider_id).bind(api_key_id).bind(admitted).bind(outcome.as_str()).bind(refusal)
        .bind(status).bind(upstream_status).bind(requested_model).bind(served_model).bind(input_tokens)
        .bind(output_tokens).bind(cached_input_tokens).bind(cache_write_tokens).bind(reasoning_tokens)
        .bind(duration_us).bind(first_byte_us).bind(streamed).bind(request_bytes).bind(response_bytes)
        .bind(method).bind(path).bind(revision).bind(denial.as_ref().map(Json)).bind(attempts).bind(unsettled)
        .bind(input_audio_tokens).bind(output_audio_tokens).bind(estimated).bind(first_token_us)
        .bind(finish_reason).bind(tool_calls).bind(error_type)
        .execute(connection).await.map(|done| done.rows_affected()))?;
    Ok(inserted > 0)
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SumKey {
    grain: &'static str,
    start_us: i64,
    endpoint_id: Uuid,
    provider_id: Uuid,
    api_key_id: Uuid,
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    requests: i64,
    refused: i64,
    errors: i64,
    input_tokens: i64,
    output_tokens: i64,
    unknown_token_requests: i64,
}

fn add(sums: &mut BTreeMap<SumKey, Sum>, record: &Record) {
    for (grain, length) in [("minute", MINUTE_US), ("hour", HOUR_US)] {
        let key = SumKey {
            grain,
            start_us: record.started_at_us - record.started_at_us.rem_euclid(length),
            endpoint_id: record.endpoint_id,
            provider_id: record.provider_id.unwrap_or_default(),
            api_key_id: record.api_key_id,
            model: record.model().to_owned(),
            outcome: record.outcome.as_str(),
        };
        let sum = sums.entry(key).or_default();
        sum.requests += 1;
        sum.refused += i64::from(record.outcome == Outcome::Refused);
        sum.errors += i64::from(record.outcome.is_error());
        sum.input_tokens += record.input_tokens.unwrap_or(0);
        sum.output_tokens += record.output_tokens.unwrap_or(0);
        // Of a request that never reached a vendor it is known that it used nothing.
        let unknown = record.admitted && (record.input_tokens.is_none() || record.output_tokens.is_none());
        sum.unknown_token_requests += i64::from(unknown);
    }
}

async fn raise(transaction: &mut Transaction, organization_id: Uuid, key: &SumKey, sum: &Sum) -> Result<(), Error> {
    let SumKey { grain, start_us, endpoint_id, provider_id, api_key_id, model, outcome } = key;
    let Sum { requests, refused, errors, input_tokens, output_tokens, unknown_token_requests } = sum;
    run!(transaction, connection => sqlx::query(
            "INSERT INTO usage_rollup (organization_id, grain, start_us, endpoint_id, provider_id, api_key_id, model, \
             outcome, requests, refused, errors, input_tokens, output_tokens, unknown_token_requests) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
             ON CONFLICT (organization_id, grain, start_us, endpoint_id, provider_id, api_key_id, model, outcome) \
             DO UPDATE SET requests = usage_rollup.requests + excluded.requests, \
             refused = usage_rollup.refused + excluded.refused, errors = usage_rollup.errors + excluded.errors, \
             input_tokens = usage_rollup.input_tokens + excluded.input_tokens, \
             output_tokens = usage_rollup.output_tokens + excluded.output_tokens, unknown_token_requests = \
             usage_rollup.unknown_token_requests + excluded.unknown_token_requests",
        )
        .bind(organization_id).bind(*grain).bind(start_us).bind(endpoint_id).bind(provider_id).bind(api_key_id)
        .bind(model).bind(*outcome).bind(requests).bind(refused).bind(errors).bind(input_tokens).bind(output_tokens)
        .bind(unknown_token_requests).execute(connection).await.map(|_| ()))?;
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

/// Over which time, and split how.
#[derive(Clone, Debug)]
pub struct SumQuery {
    /// Unix microseconds, inclusive.
    pub from_us: i64,
    /// Unix microseconds, exclusive.
    pub to_us: i64,
    /// Without doubles.
    pub group_by: Vec<Dimension>,
    /// One row per span of time, or one in all.
    pub interval: Interval,
}

impl SumQuery {
    /// The grain of the sums that answer it, and the length of its rows' spans.
    fn grain(&self) -> (&'static str, Option<i64>) {
        match self.interval {
            Interval::Minute => ("minute", Some(MINUTE_US)),
            Interval::Hour => ("hour", Some(HOUR_US)),
            Interval::Day => ("hour", Some(DAY_US)),
            Interval::None if self.to_us.saturating_sub(self.from_us) <= 2 * DAY_US => ("minute", None),
            Interval::None => ("hour", None),
        }
    }

    /// The beginning of the time that is really summed: sums begin at whole minutes or hours.
    pub fn begins_us(&self) -> i64 {
        let length = if self.grain().0 == "minute" { MINUTE_US } else { HOUR_US };
        self.from_us - self.from_us.rem_euclid(length)
    }
}

#[derive(sqlx::FromRow)]
struct SumRow {
    start_us: i64,
    api_key_id: Option<Uuid>,
    endpoint_id: Option<Uuid>,
    provider_id: Option<Uuid>,
    model: String,
    outcome: String,
    requests: i64,
    refused: i64,
    errors: i64,
    input_tokens: i64,
    output_tokens: i64,
    unknown_token_requests: i64,
}

/// Sums of an organization's usage, at most `limit` rows, in order of time and then of their groups.
pub async fn sum(
    transaction: &mut Transaction,
    organization_id: Uuid,
    query: &SumQuery,
    limit: i64,
) -> Result<Vec<UsageSum>, Error> {
    let (grain, span) = query.grain();
    // All parts come from the closed sets here; nothing a client wrote is in the text.
    let span = span.map_or_else(|| "CAST(0 AS BIGINT)".to_owned(), |span| format!("start_us - start_us % {span}"));
    let by = |dimension: Dimension| query.group_by.contains(&dimension);
    let column = |dimension: Dimension, name: &'static str| if by(dimension) { name } else { "CAST(NULL AS UUID)" };
    let text = |dimension: Dimension, name: &'static str| if by(dimension) { name } else { "''" };
    let groups: Vec<&str> = [
        (Dimension::Key, "api_key_id"),
        (Dimension::Endpoint, "endpoint_id"),
        (Dimension::Provider, "provider_id"),
        (Dimension::Model, "model"),
        (Dimension::Outcome, "outcome"),
    ]
    .into_iter()
    .filter(|(dimension, _)| by(*dimension))
    .map(|(_, name)| name)
    .collect();
    let group_by = std::iter::once("1").chain(groups).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT {span} AS start_us, {key} AS api_key_id, {endpoint} AS endpoint_id, {provider} AS provider_id, \
         {model} AS model, {outcome} AS outcome, CAST(SUM(requests) AS BIGINT) AS requests, \
         CAST(SUM(refused) AS BIGINT) AS refused, CAST(SUM(errors) AS BIGINT) AS errors, \
         CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, CAST(SUM(output_tokens) AS BIGINT) AS output_tokens, \
         CAST(SUM(unknown_token_requests) AS BIGINT) AS unknown_token_requests \
         FROM usage_rollup WHERE organization_id = $1 AND grain = $2 AND start_us >= $3 AND start_us < $4 \
         GROUP BY {group_by} ORDER BY {group_by} LIMIT $5",
        key = column(Dimension::Key, "api_key_id"),
        endpoint = column(Dimension::Endpoint, "endpoint_id"),
        provider = column(Dimension::Provider, "provider_id"),
        model = text(Dimension::Model, "model"),
        outcome = text(Dimension::Outcome, "outcome"),
    );
    let rows: Vec<SumRow> = run!(transaction, connection => sqlx::query_as(AssertSqlSafe(sql))
        .bind(organization_id).bind(grain).bind(query.begins_us()).bind(query.to_us).bind(limit)
        .fetch_all(connection).await)?;
    let names = Names::read(transaction, organization_id).await?;
    let sums = rows.into_iter().map(|row| UsageSum {
        start: span_start(query.interval, row.start_us),
        key: row.api_key_id.map(|id| names.key(id)),
        endpoint: row.endpoint_id.map(|id| names.endpoint(id)),
        provider: row.provider_id.filter(|id| !id.is_nil()).map(|id| names.endpoint(id)),
        model: Some(row.model).filter(|model| !model.is_empty()),
        outcome: Outcome::parse(&row.outcome),
        requests: row.requests,
        refused: row.refused,
        errors: row.errors,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        unknown_token_requests: row.unknown_token_requests,
    });
    Ok(sums.collect())
}

fn span_start(interval: Interval, start_us: i64) -> Option<OffsetDateTime> {
    match interval {
        Interval::None => None,
        Interval::Minute | Interval::Hour | Interval::Day => {
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(start_us) * 1_000).ok()
        }
    }
}
