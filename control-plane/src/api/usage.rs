//! Usage, summed.

use axum::Json;
use axum::extract::State;
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
use crate::model::role::Permission;
use crate::model::usage::{Dimension, Interval, UsageSum};
use crate::store::usage::SumQuery;
use crate::store::{books, microseconds, now, usage};

/// Beyond this a question is too fine.
const MOST_ROWS: i64 = 10_000;
/// Without `from`.
const DEFAULT_SPAN: Duration = Duration::hours(24);

/// Over which time, and split how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// RFC 3339, rounded down to the minute or hour; 24 hours before `to` when absent.
    from: Option<String>,
    /// RFC 3339, not included; now when absent.
    to: Option<String>,
    /// Any of `key`, `endpoint`, `provider`, `model`, `outcome`, separated by commas.
    group_by: Option<String>,
    /// One row per span; all in one when absent.
    #[param(inline)]
    interval: Option<Interval>,
}

/// Sums of usage.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// In order of time, then of groups.
    data: Vec<UsageSum>,
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
        (status = 200, body = Usage),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(State(app): State<App>, actor: Actor, Query(query): Query<UsageQuery>) -> Result<Json<Usage>, Error> {
    actor.require(Permission::UsageRead)?;
    let to = query.to.as_deref().map_or_else(|| Ok(now()), |text| time_of("to", text))?;
    let from = query.from.as_deref().map_or_else(|| Ok(to - DEFAULT_SPAN), |text| time_of("from", text))?;
    if from >= to {
        return Err(Error::Malformed("from must lie before to".to_owned()));
    }
    let sums = SumQuery {
        from_us: microseconds(from),
        to_us: microseconds(to),
        group_by: dimensions(query.group_by.as_deref().unwrap_or_default())?,
        interval: query.interval.unwrap_or_default(),
    };
    let mut transaction = app.store.read().await?;
    let data = usage::sum(&mut transaction, actor.organization_id, &sums, MOST_ROWS + 1).await?;
    if data.len() > usize::try_from(MOST_ROWS).unwrap_or(usize::MAX) {
        return Err(Error::Malformed(format!(
            "more than {MOST_ROWS} rows; ask for a shorter time, a longer interval or fewer groups"
        )));
    }
    let from = OffsetDateTime::from_unix_timestamp_nanos(i128::from(sums.begins_us()) * 1_000).unwrap_or(from);
    Ok(Json(Usage { data, from, to }))
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

fn time_of(name: &str, text: &str) -> Result<OffsetDateTime, Error> {
    let wrong = || Error::Malformed(format!("{name} must be a time as in 2026-01-31T12:00:00Z"));
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    let at = at.checked_to_offset(time::UtcOffset::UTC).ok_or_else(wrong)?;
    // Far enough from the ends of what can be counted in microseconds, or moved by a day.
    if (1970..=9000).contains(&at.year()) { Ok(at) } else { Err(wrong()) }
}

fn dimensions(text: &str) -> Result<Vec<Dimension>, Error> {
    let mut dimensions = Vec::new();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        let Some((_, dimension)) = Dimension::NAMES.into_iter().find(|(known, _)| *known == name) else {
            let known = Dimension::NAMES.map(|(name, _)| name).join(", ");
            return Err(Error::Malformed(format!("groupBy takes any of: {known}")));
        };
        if !dimensions.contains(&dimension) {
            dimensions.push(dimension);
        }
    }
    Ok(dimensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_of_the_closed_set_and_count_once() {
        assert_eq!(dimensions("").unwrap(), []);
        assert_eq!(dimensions("model,key,model").unwrap(), [Dimension::Model, Dimension::Key]);
        assert!(dimensions("key,start_us;").is_err());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time_of("to", "1970-01-01T01:00:00+01:00").unwrap(), OffsetDateTime::UNIX_EPOCH);
        for text in ["", "yesterday", "2026-01-01", "9999-12-31T00:00:00Z"] {
            assert!(time_of("to", text).is_err(), "{text}");
        }
    }
}
