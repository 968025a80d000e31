//! The request log: recorded requests with the names that people know them by.

use std::collections::BTreeMap;

use sqlx::types::{Json, Uuid};
use time::OffsetDateTime;

use super::{Store, Transaction, engine::run};
use crate::model::{
    error::{Error, Internal},
    id::{ApiKeyId, RequestId},
    request::{AttemptEntry, RequestEntry, RequestTrace, explain},
    usage::{Attempt, Batch, Denial, Outcome, Record, dollars},
};

/// What to list of the recorded requests.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Older than this one.
    pub before: Option<Uuid>,
    /// Of this endpoint, as caller's target.
    pub endpoint_id: Option<Uuid>,
    /// Opened by this key.
    pub api_key_id: Option<Uuid>,
    /// Ended like this.
    pub outcome: Option<Outcome>,
    /// Answered by this provider, last.
    pub provider_id: Option<Uuid>,
    /// Of this model, as served or else as asked for.
    pub model: Option<String>,
    /// With this status.
    pub status: Option<i64>,
    /// That cost this many nano-dollars or more.
    pub min_cost_nanos: Option<i64>,
    /// That took this many microseconds or longer.
    pub min_duration_us: Option<i64>,
    /// Begun at or after this moment, Unix microseconds.
    pub from_us: Option<i64>,
    /// Begun before this moment, Unix microseconds.
    pub to_us: Option<i64>,
}

/// Names by id, to be read by people.
#[derive(Debug, Default)]
pub struct Names {
    endpoints: BTreeMap<Uuid, (String, String)>,
    keys: BTreeMap<Uuid, String>,
}

impl Names {
    /// All names of an organization.
    pub async fn read(transaction: &mut Transaction, organization_id: Uuid) -> Result<Self, Error> {
        let endpoints: Vec<(Uuid, String, String)> = run!(transaction, connection =>
            sqlx::query_as("SELECT id, kind, name FROM endpoint WHERE organization_id = $1")
                .bind(organization_id).fetch_all(connection).await)?;
        let keys: Vec<(Uuid, String)> = run!(transaction, connection =>
            sqlx::query_as("SELECT id, name FROM api_key WHERE organization_id = $1")
                .bind(organization_id).fetch_all(connection).await)?;
        Ok(Self {
            endpoints: endpoints.into_iter().map(|(id, kind, name)| (id, (kind, name))).collect(),
            keys: keys.into_iter().collect(),
        })
    }

    /// Of a provider or proxy; its id once it is gone.
    pub fn endpoint(&self, id: Uuid) -> String {
        self.endpoints.get(&id).map_or_else(|| id.to_string(), |(_, name)| name.clone())
    }

    /// Kind and name of a provider or proxy that is still there.
    pub fn endpoint_kind(&self, id: Uuid) -> Option<(&str, &str)> {
        self.endpoints.get(&id).map(|(kind, name)| (kind.as_str(), name.as_str()))
    }

    /// Of a key; its id once it is gone.
    pub fn key(&self, id: Uuid) -> String {
        self.keys.get(&id).cloned().unwrap_or_else(|| ApiKeyId(id).to_string())
    }

    /// Name of a key that is still there.
    pub fn key_name(&self, id: Uuid) -> Option<&str> {
        self.keys.get(&id).map(String::as_str)
    }

    /// The endpoint of this name.
    pub fn endpoint_id(&self, name: &str) -> Option<Uuid> {
        self.endpoints.iter().find(|(_, (_, known))| known == name).map(|(id, _)| *id)
    }

    /// The key of this name.
    pub fn key_id(&self, name: &str) -> Option<Uuid> {
        self.keys.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    fn row(&self, node: &str, record: &Record) -> Result<RequestEntry, Error> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(record.started_at_us) * 1_000)
            .map_err(|error| Error::Internal(Internal::new(error)))?;
        Ok(RequestEntry {
            id: RequestId(record.id),
            at,
            endpoint: self.endpoint(record.endpoint_id),
            provider: record.provider_id.map(|id| self.endpoint(id)),
            key: self.key(record.api_key_id),
            outcome: record.outcome,
            status: record.status,
            requested_model: record.requested_model.clone(),
            served_model: record.served_model.clone(),
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
            cached_input_tokens: record.cached_input_tokens,
            cache_write_tokens: record.cache_write_tokens,
            reasoning_tokens: record.reasoning_tokens,
            input_audio_tokens: record.input_audio_tokens,
            output_audio_tokens: record.output_audio_tokens,
            estimated: record.estimated,
            tokens_per_second: record.tokens_per_second(),
            finish_reason: record.finish_reason.clone(),
            tool_calls: record.tool_calls,
            error_type: record.error_type.clone(),
            cost_nanos: record.cost_nanos,
            cost: record.cost_nanos.map(dollars),
            price_version: record.price_version.clone(),
            unpriced: record.unpriced,
            duration_ms: record.duration_us / 1_000,
            first_byte_ms: record.first_byte_us.map(|us| us / 1_000),
            first_token_ms: record.first_token_us.map(|us| us / 1_000),
            streamed: record.streamed,
            path: record.path.clone(),
            method: record.method.clone(),
            refusal: record.refusal.clone(),
            node: node.to_owned(),
            unsettled: record.unsettled,
        })
    }
}

/// The records of a batch as people read them.
pub async fn describe(store: &Store, batch: &Batch) -> Result<Vec<RequestEntry>, Error> {
    let mut transaction = store.read().await?;
    let names = Names::read(&mut transaction, batch.organization_id).await?;
    batch.records.iter().map(|record| names.row(&batch.node, record)).collect()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    node: String,
    started_at_us: i64,
    endpoint_id: Uuid,
    provider_id: Option<Uuid>,
    api_key_id: Uuid,
    admitted: bool,
    outcome: String,
    refusal: Option<String>,
    status: Option<i64>,
    upstream_status: Option<i64>,
    requested_model: Option<String>,
    served_model: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    cached_input_tokens: Option<i64>,
    cache_write_tokens: Option<i64>,
    reasoning_tokens: Option<i64>,
    duration_us: i64,
    first_byte_us: Option<i64>,
    streamed: bool,
    request_bytes: i64,
    response_bytes: i64,
    method: String,
    path: String,
    revision: i64,
    cost_nanos: Option<i64>,
    price_version: Option<String>,
    unpriced: bool,
    denial: Option<Json<Denial>>,
    attempts: Option<Json<Vec<Attempt>>>,
    unsettled: bool,
    input_audio_tokens: Option<i64>,
    output_audio_tokens: Option<i64>,
    estimated: bool,
    first_token_us: Option<i64>,
    finish_reason: Option<String>,
    tool_calls: Option<i64>,
    error_type: Option<String>,
}

impl Row {
    fn read(self) -> Result<(String, Record), Error> {
        let outcome = Outcome::parse(&self.outcome)
            .ok_or_else(|| Error::Internal(Internal::message("a record's outcome is none that we know")))?;
        let record = Record {
            id: self.id,
            started_at_us: self.started_at_us,
            endpoint_id: self.endpoint_id,
            provider_id: self.provider_id,
            api_key_id: self.api_key_id,
            admitted: self.admitted,
            outcome,
            refusal: self.refusal,
            status: self.status,
            upstream_status: self.upstream_status,
            requested_model: self.requested_model,
            served_model: self.served_model,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cached_input_tokens: self.cached_input_tokens,
            cache_write_tokens: self.cache_write_tokens,
            reasoning_tokens: self.reasoning_tokens,
            duration_us: self.duration_us,
            first_byte_us: self.first_byte_us,
            streamed: self.streamed,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            method: self.method,
            path: self.path,
            revision: self.revision,
            cost_nanos: self.cost_nanos,
            price_version: self.price_version,
            unpriced: self.unpriced,
            denial: self.denial.map(|denial| denial.0),
            attempts: self.attempts.map(|attempts| attempts.0).unwrap_or_default(),
            unsettled: self.unsettled,
            input_audio_tokens: self.input_audio_tokens,
            output_audio_tokens: self.output_audio_tokens,
            estimated: self.estimated,
            first_token_us: self.first_token_us,
            finish_reason: self.finish_reason,
            tool_calls: self.tool_calls,
            error_type: self.error_type,
        };
        Ok((self.node, record))
    }
}

/// The least id of a request that began then: ids are made when requests begin. A minute less, for clocks that were set
/// in between.
fn first_id(from_us: Option<i64>) -> Uuid {
    let milliseconds = from_us.map_or(0, |us| u64::try_from(us / 1_000 - 60_000).unwrap_or(0));
    Uuid::from_u128(u128::from(milliseconds) << 80)
}

/// Recorded requests, newest first, at most `limit`.
pub async fn list(
    transaction: &mut Transaction,
    organization_id: Uuid,
    filter: &RequestFilter,
    limit: i64,
) -> Result<Vec<RequestEntry>, Error> {
    let RequestFilter {
        before,
        endpoint_id,
        api_key_id,
        outcome,
        provider_id,
        model,
        status,
        min_cost_nanos,
        min_duration_us,
        from_us,
        to_us,
    } = filter;
    let rows: Vec<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, node, started_at_us, endpoint_id, provider_id, api_key_id, admitted, outcome, refusal, \
             status, upstream_status, requested_model, served_model, input_tokens, output_tokens, \
             cached_input_tokens, cache_write_tokens, reasoning_tokens, duration_us, first_byte_us, streamed, \
             request_bytes, response_bytes, method, path, revision, denial, attempts, unsettled, cost_nanos, \
             price_version, unpriced, input_audio_tokens, output_audio_tokens, estimated, first_token_us, \
             finish_reason, tool_calls, error_type \
             FROM usage_record WHERE organization_id = $1 AND id < $2 AND ($3 IS NULL OR endpoint_id = $3) \
             AND ($4 IS NULL OR api_key_id = $4) AND ($5 IS NULL OR outcome = $5) AND ($7 IS NULL OR provider_id = $7) \
             AND ($8 IS NULL OR COALESCE(served_model, requested_model) = $8) AND ($9 IS NULL OR status = $9) \
             AND ($10 IS NULL OR cost_nanos >= $10) AND ($11 IS NULL OR duration_us >= $11) \
             AND id >= $12 AND started_at_us >= $13 AND started_at_us < $14 ORDER BY id DESC LIMIT $6",
        )
        .bind(organization_id).bind(before.unwrap_or(Uuid::max())).bind(endpoint_id).bind(api_key_id)
        .bind(outcome.map(Outcome::as_str)).bind(limit).bind(provider_id).bind(model).bind(status)
        .bind(min_cost_nanos).bind(min_duration_us).bind(first_id(*from_us)).bind(from_us.unwrap_or(i64::MIN))
        .bind(to_us.unwrap_or(i64::MAX)).fetch_all(connection).await)?;
    let names = Names::read(transaction, organization_id).await?;
    rows.into_iter().map(|row| row.read().and_then(|(node, record)| names.row(&node, &record))).collect()
}

/// All that is known of one request; `None`: the ledger does not have it.
pub async fn get(
    transaction: &mut Transaction,
    organization_id: Uuid,
    id: Uuid,
) -> Result<Option<RequestTrace>, Error> {
    let row: Option<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, node, started_at_us, endpoint_id, provider_id, api_key_id, admitted, outcome, refusal, \
             status, upstream_status, requested_model, served_model, input_tokens, output_tokens, \
             cached_input_tokens, cache_write_tokens, reasoning_tokens, duration_us, first_byte_us, streamed, \
             request_bytes, response_bytes, method, path, revision, denial, attempts, unsettled, cost_nanos, \
             price_version, unpriced, input_audio_tokens, output_audio_tokens, estimated, first_token_us, \
             finish_reason, tool_calls, error_type \
             FROM usage_record WHERE organization_id = $1 AND id = $2",
        )
        .bind(organization_id).bind(id).fetch_optional(connection).await)?;
    let Some(row) = row else { return Ok(None) };
    let (node, record) = row.read()?;
    let names = Names::read(transaction, organization_id).await?;
    let attempts = attempts(&names, &record);
    Ok(Some(RequestTrace {
        entry: names.row(&node, &record)?,
        admitted: record.admitted,
        upstream_status: record.upstream_status,
        cached_input_tokens: record.cached_input_tokens,
        cache_write_tokens: record.cache_write_tokens,
        reasoning_tokens: record.reasoning_tokens,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        revision: record.revision,
        explanation: explain(&record, &attempts),
        denial: record.denial,
        attempts,
    }))
}

/// In order; the only one is told by the record itself.
fn attempts(names: &Names, record: &Record) -> Vec<AttemptEntry> {
    let entry = |attempt: &Attempt| AttemptEntry {
        provider: names.endpoint(attempt.provider_id),
        status: attempt.status,
        failure: attempt.ending.clone(),
        duration_ms: Some(attempt.duration_us / 1_000),
    };
    match record.provider_id {
        Some(provider_id) if record.attempts.is_empty() => vec![AttemptEntry {
            provider: names.endpoint(provider_id),
            status: record.upstream_status,
            failure: record.refusal.clone().filter(|_| record.upstream_status.is_none()),
            duration_ms: record.first_byte_us.map(|us| us / 1_000),
        }],
        _ => record.attempts.iter().map(entry).collect(),
    }
}
