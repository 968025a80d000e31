//! Usage, summed.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::extract::Query;
use super::problem::Problem;
use super::router::App;
use crate::model::books::UsageAudit;
use crate::model::error::Error;
use crate::model::id::{ApiKeyId, ProviderId, ProxyId};
use crate::model::role::Permission;
use crate::model::usage::{Dimension, Figures, Interval, Outcome, UsageSum, dollars};
use crate::store::request::Names;
use crate::store::usage_sum::{self, SumQuery};
use crate::store::{books, microseconds, now};

/// Beyond this a question is too fine.
const MOST_ROWS: i64 = 10_000;
/// Without `from`.
const DEFAULT_SPAN: Duration = Duration::hours(24);
/// The longest time by minute: more is neither read nor drawn.
const MOST_MINUTES: Duration = Duration::days(2);

/// Over which time, of what, and split how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// RFC 3339, rounded down to the minute (where minutes are no longer kept, to the hour or day); 24 hours before
    /// `to` when absent.
    from: Option<String>,
    /// RFC 3339, not included; now when absent.
    to: Option<String>,
    /// Any of `key`, `endpoint`, `proxy`, `provider`, `model`, `outcome`, and one `label:<name>`, separated by commas.
    group_by: Option<String>,
    /// One row per span, by minute for two days at most; all in one when absent.
    #[param(inline)]
    interval: Option<Interval>,
    /// Only of this provider or proxy, by name or id, as it was called.
    endpoint: Option<String>,
    /// Only what this provider answered, by name or id.
    provider: Option<String>,
    /// Only of this API key, by name or id.
    key: Option<String>,
    /// Only of this model.
    model: Option<String>,
    /// Only what ended like this.
    outcome: Option<Outcome>,
    /// `csv` for a table; `Accept: text/csv` does the same.
    #[param(inline)]
    format: Option<Format>,
}

/// How sums are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One object.
    Json,
    /// RFC 4180, one line per row.
    Csv,
}

/// Sums of usage.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// In order of time, then of groups.
    data: Vec<UsageSum>,
    /// All rows in one.
    totals: Figures,
    /// The beginning of what was summed.
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    /// Its end.
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
}

/// Sum usage
#[utoipa::path(
    get, path = "/usage", tag = "usage", operation_id = "getUsage",
    params(UsageQuery),
    responses(
        (status = 200, content((Usage = "application/json"), (String = "text/csv"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(
    State(app): State<App>,
    actor: Actor,
    headers: HeaderMap,
    Query(query): Query<UsageQuery>,
) -> Result<Response, Error> {
    actor.require(Permission::UsageRead)?;
    let to = query.to.as_deref().map_or_else(|| Ok(now()), |text| time_of("to", text))?;
    let from = query.from.as_deref().map_or_else(|| Ok(to - DEFAULT_SPAN), |text| time_of("from", text))?;
    if from >= to {
        return Err(Error::Malformed("from must lie before to".to_owned()));
    }
    let interval = query.interval.unwrap_or_default();
    if interval == Interval::Minute && to - from > MOST_MINUTES {
        return Err(Error::Malformed("by minute, two days at most; ask by hour or for a shorter time".to_owned()));
    }
    let Groups { group_by, label } = groups(query.group_by.as_deref().unwrap_or_default())?;
    let mut transaction = app.store.read().await?;
    let names = Names::read(&mut transaction, actor.organization_id).await?;
    let endpoint = |key: String| {
        let id = key.parse::<ProviderId>().map(|id| id.0).or_else(|_| key.parse::<ProxyId>().map(|id| id.0)).ok();
        id.or_else(|| names.endpoint_id(&key)).ok_or(Error::NotFound { noun: "endpoint", key })
    };
    let api_key = |key: String| {
        let id = key.parse::<ApiKeyId>().map(|id| id.0).ok();
        id.or_else(|| names.key_id(&key)).ok_or(Error::NotFound { noun: "api key", key })
    };
    let asked = SumQuery {
        from_us: microseconds(from),
        to_us: microseconds(to),
        group_by: group_by.clone(),
        label: label.clone(),
        interval,
        endpoint_id: query.endpoint.map(endpoint).transpose()?,
        provider_id: query.provider.map(endpoint).transpose()?,
        api_key_id: query.key.map(api_key).transpose()?,
        model: query.model.filter(|model| !model.contains('\0')),
        outcome: query.outcome,
    };
    let (data, begins_us) = usage_sum::sum(&mut transaction, actor.organization_id, asked, MOST_ROWS + 1).await?;
    if data.len() > usize::try_from(MOST_ROWS).unwrap_or(usize::MAX) {
        return Err(Error::Malformed(format!(
            "more than {MOST_ROWS} rows; ask for a shorter time, a longer interval or fewer groups"
        )));
    }
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if query.format == Some(Format::Csv) || query.format.is_none() && accepts.starts_with("text/csv") {
        let kind = HeaderValue::from_static("text/csv; charset=utf-8");
        let name = HeaderValue::from_static("attachment; filename=\"usage.csv\"");
        let text = table(&data, interval, &group_by, label.as_deref());
        return Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], text).into_response());
    }
    let from = OffsetDateTime::from_unix_timestamp_nanos(i128::from(begins_us) * 1_000).unwrap_or(from);
    let totals = totals(&data);
    Ok(Json(Usage { data, totals, from, to }).into_response())
}

/// Over which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// RFC 3339, rounded down to the hour; 24 hours before `to` when absent.
    from: Option<String>,
    /// RFC 3339, rounded up to the hour; now when absent.
    to: Option<String>,
}

/// Compare usage with what nodes say and with itself
#[utoipa::path(
    get, path = "/usage/audit", tag = "usage", operation_id = "auditUsage",
    params(AuditQuery),
    responses(
        (status = 200, body = UsageAudit),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn audit(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<AuditQuery>,
) -> Result<Json<UsageAudit>, Error> {
    actor.require(Permission::UsageRead)?;
    let to = query.to.as_deref().map_or_else(|| Ok(now()), |text| time_of("to", text))?;
    let from = query.from.as_deref().map_or_else(|| Ok(to - DEFAULT_SPAN), |text| time_of("from", text))?;
    if from >= to {
        return Err(Error::Malformed("from must lie before to".to_owned()));
    }
    let mut transaction = app.store.read().await?;
    let (from, to) = (microseconds(from), microseconds(to));
    Ok(Json(books::audit(&mut transaction, actor.organization_id, from, to).await?))
}

fn totals(data: &[UsageSum]) -> Figures {
    let mut totals = Figures::default();
    for UsageSum { figures, .. } in data {
        for (total, figure) in counts_mut(&mut totals).into_iter().zip(counts(figures)) {
            *total = total.saturating_add(figure);
        }
    }
    totals.cost = dollars(totals.cost_nanos);
    let average = |of: fn(&Figures) -> Option<i64>| {
        let known = || data.iter().filter_map(|sum| Some((of(&sum.figures)?, sum.figures.requests)));
        let requests: i64 = known().map(|(_, requests)| requests).sum();
        // Of averages, weighted by requests: as near as milliseconds need.
        (requests > 0).then(|| known().map(|(ms, requests)| ms.saturating_mul(requests)).sum::<i64>() / requests)
    };
    totals.average_duration_ms = average(|figures| figures.average_duration_ms);
    totals.average_first_byte_ms = average(|figures| figures.average_first_byte_ms);
    totals.average_first_token_ms = average(|figures| figures.average_first_token_ms);
    totals
}

/// Names of [`counts`].
const COUNTS: [&str; 14] = [
    "requests",
    "refused",
    "errors",
    "inputTokens",
    "outputTokens",
    "cachedInputTokens",
    "cacheWriteTokens",
    "reasoningTokens",
    "inputAudioTokens",
    "outputAudioTokens",
    "unknownTokenRequests",
    "unpricedRequests",
    "unknownCostRequests",
    "costNanos",
];

fn counts_mut(figures: &mut Figures) -> [&mut i64; COUNTS.len()] {
    let Figures {
        requests,
        refused,
        errors,
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_tokens,
        reasoning_tokens,
        input_audio_tokens,
        output_audio_tokens,
        unknown_token_requests,
        cost_nanos,
        cost: _,
        unpriced_requests,
        unknown_cost_requests,
        average_duration_ms: _,
        average_first_byte_ms: _,
        average_first_token_ms: _,
    } = figures;
    [
        requests,
        refused,
        errors,
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_tokens,
        reasoning_tokens,
        input_audio_tokens,
        output_audio_tokens,
        unknown_token_requests,
        unpriced_requests,
        unknown_cost_requests,
        cost_nanos,
    ]
}

fn counts(figures: &Figures) -> [i64; COUNTS.len()] {
    counts_mut(&mut figures.clone()).map(|count| *count)
}

/// RFC 4180. A cell that a spreadsheet would take for a formula is made text.
fn table(data: &[UsageSum], interval: Interval, group_by: &[Dimension], label: Option<&str>) -> String {
    let names = Dimension::NAMES.into_iter().filter(|(_, dimension)| group_by.contains(dimension));
    let mut heads: Vec<String> = Vec::new();
    if interval != Interval::None {
        heads.push("start".to_owned());
    }
    heads.extend(names.clone().map(|(name, _)| name.to_owned()));
    heads.extend(label.map(|label| format!("label:{label}")));
    heads.extend(COUNTS.map(str::to_owned));
    heads.push("cost".to_owned());
    let mut text = line(heads);
    for sum in data {
        let mut cells = Vec::new();
        if interval != Interval::None {
            cells.push(sum.start.and_then(|start| start.format(&Rfc3339).ok()).unwrap_or_default());
        }
        cells.extend(names.clone().map(|(_, dimension)| {
            let value = match dimension {
                Dimension::Key => sum.key.clone(),
                Dimension::Endpoint => sum.endpoint.clone(),
                Dimension::Proxy => sum.proxy.clone(),
                Dimension::Provider => sum.provider.clone(),
                Dimension::Model => sum.model.clone(),
                Dimension::Outcome => sum.outcome.map(|outcome| outcome.as_str().to_owned()),
            };
            value.unwrap_or_default()
        }));
        if label.is_some() {
            cells.push(sum.label.clone().unwrap_or_default());
        }
        cells.extend(counts(&sum.figures).map(|count| count.to_string()));
        cells.push(sum.figures.cost.clone());
        text.push_str(&line(cells));
    }
    text
}

fn line(cells: Vec<String>) -> String {
    let cell = |text: String| {
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let text = if formula { format!("'{text}") } else { text };
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    };
    let mut line = cells.into_iter().map(cell).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// A moment that a query names.
pub(super) fn time_of(name: &str, text: &str) -> Result<OffsetDateTime, Error> {
    let wrong = || Error::Malformed(format!("{name} must be a time as in 2026-01-31T12:00:00Z"));
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    let at = at.checked_to_offset(time::UtcOffset::UTC).ok_or_else(wrong)?;
    // Far enough from the ends of what can be counted in microseconds, or moved by a day.
    if (1970..=9000).contains(&at.year()) { Ok(at) } else { Err(wrong()) }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    group_by: Vec<Dimension>,
    label: Option<String>,
}

fn groups(text: &str) -> Result<Groups, Error> {
    let mut groups = Groups::default();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        if let Some(label) = name.strip_prefix("label:") {
            if groups.label.as_deref().is_some_and(|other| other != label) || label.contains('\0') {
                return Err(Error::Malformed("groupBy takes one label".to_owned()));
            }
            groups.label = Some(label.to_owned());
            continue;
        }
        let Some((_, dimension)) = Dimension::NAMES.into_iter().find(|(known, _)| *known == name) else {
            let known = Dimension::NAMES.map(|(name, _)| name).join(", ");
            return Err(Error::Malformed(format!("groupBy takes any of: {known}, and one label:<name>")));
        };
        if !groups.group_by.contains(&dimension) {
            groups.group_by.push(dimension);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_the_closed_set_and_count_once() {
        assert_eq!(groups("").unwrap(), Groups::default());
        let some = groups("model,key,label:team,model").unwrap();
        assert_eq!((some.group_by, some.label.as_deref()), (vec![Dimension::Model, Dimension::Key], Some("team")));
        assert!(groups("key,start_us;").is_err());
        assert!(groups("label:a,label:b").is_err());
    }

    #[test]
    fn a_cell_is_neither_two_cells_nor_a_formula() {
        let cells = ["a", "b,c", "say \"x\"", "=1+1", "@cmd", ""].map(str::to_owned).to_vec();
        assert_eq!(line(cells), "a,\"b,c\",\"say \"\"x\"\"\",'=1+1,'@cmd,\r\n");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time_of("to", "1970-01-01T01:00:00+01:00").unwrap(), OffsetDateTime::UNIX_EPOCH);
        for text in ["", "yesterday", "2026-01-01", "9999-12-31T00:00:00Z"] {
            assert!(time_of("to", text).is_err(), "{text}");
        }
    }
}
