//! Sums of usage over any time: whole days from the sums by day, what is left at the ends from those by hour and minute.
//! What asks for no endpoint, provider or key reads the sums over all of them.

use sqlx::{AssertSqlSafe, FromRow, types::Uuid};
use time::OffsetDateTime;

use super::{Transaction, engine::run, period, request::Names, usage::FIGURES, usage_total};
use crate::model::{
    error::Error,
    usage::{Dimension, Figures, Interval, Kept, Outcome, UsageSum, dollars},
};

/// Over which time, of what, and split how.
#[derive(Clone, Debug, Default)]
pub struct SumQuery {
    /// Unix microseconds, inclusive.
    pub from_us: i64,
    /// Unix microseconds, exclusive.
    pub to_us: i64,
    /// Without doubles.
    pub group_by: Vec<Dimension>,
    /// Also by what this label of the key says.
    pub label: Option<String>,
    /// One row per span of time, or one in all.
    pub interval: Interval,
    /// Of this endpoint.
    pub endpoint_id: Option<Uuid>,
    /// Of this provider.
    pub provider_id: Option<Uuid>,
    /// Of this key.
    pub api_key_id: Option<Uuid>,
    /// Of this model.
    pub model: Option<String>,
    /// Ended like this.
    pub outcome: Option<Outcome>,
}

/// A part of the time and the sums that it is read from.
type Segment = (Kept, i64, i64);

impl SumQuery {
    /// Sums begin at whole minutes; where those are no longer kept, at whole hours or days. `since`: when each begins.
    fn begin(&mut self, minutes_us: Option<i64>, hours_us: Option<i64>) {
        let length = match (minutes_us, hours_us) {
            (_, Some(hours)) if self.from_us < hours => Kept::Days,
            (Some(minutes), _) if self.from_us < minutes => Kept::Hours,
            _ => Kept::Minutes,
        };
        self.from_us -= self.from_us.rem_euclid(length.length_us());
    }

    /// Whether it is all the same who made the requests, and over what.
    fn is_total(&self) -> bool {
        let Self { endpoint_id, provider_id, api_key_id, label, group_by, .. } = self;
        let filter = endpoint_id.or(*provider_id).or(*api_key_id);
        let wide = |dimension: &Dimension| matches!(dimension, Dimension::Model | Dimension::Outcome);
        filter.is_none() && label.is_none() && group_by.iter().all(wide)
    }

    /// Few rows are read wherever a span holds whole hours or days.
    fn segments(&self) -> Vec<Segment> {
        let (hour, day) = (Kept::Hours.length_us(), Kept::Days.length_us());
        let up = |at: i64, length: i64| at + (-at).rem_euclid(length);
        let down = |at: i64, length: i64| at - at.rem_euclid(length);
        let (from, to) = (self.from_us, self.to_us);
        let (first_hour, last_hour) = (up(from, hour), down(to, hour));
        if self.interval == Interval::Minute || first_hour >= last_hour {
            return vec![(Kept::Minutes, from, to)];
        }
        let (first_day, last_day) = (up(first_hour, day), down(last_hour, day));
        let mut segments = vec![(Kept::Minutes, from, first_hour)];
        if self.interval == Interval::Hour || first_day >= last_day {
            segments.push((Kept::Hours, first_hour, last_hour));
        } else {
            segments.push((Kept::Hours, first_hour, first_day));
            segments.push((Kept::Days, first_day, last_day));
            segments.push((Kept::Hours, last_day, last_hour));
        }
        segments.push((Kept::Minutes, last_hour, to));
        segments.retain(|(_, from, to)| from < to);
        segments
    }
}

#[derive(FromRow)]
struct SumRow {
    start_us: i64,
    api_key_id: Option<Uuid>,
    endpoint_id: Option<Uuid>,
    proxy_id: Option<Uuid>,
    provider_id: Option<Uuid>,
    model: String,
    outcome: String,
    label: Option<String>,
    requests: i64,
    refused: i64,
    errors: i64,
    input_tokens: i64,
    output_tokens: i64,
    cached_input_tokens: i64,
    cache_write_tokens: i64,
    reasoning_tokens: i64,
    input_audio_tokens: i64,
    output_audio_tokens: i64,
    unknown_token_requests: i64,
    cost_nanos: i64,
    unpriced_requests: i64,
    unknown_cost_requests: i64,
    duration_us: i64,
    first_byte_us: i64,
    first_byte_requests: i64,
    first_token_us: i64,
    first_token_requests: i64,
}

/// Sums of an organization's usage, at most `limit` rows, in order of time and then of their groups; and the beginning
/// of the time that is really summed.
pub async fn sum(
    transaction: &mut Transaction,
    organization_id: Uuid,
    mut query: SumQuery,
    limit: i64,
) -> Result<(Vec<UsageSum>, i64), Error> {
    let minutes = period::since(transaction, Kept::Minutes).await?;
    let hours = period::since(transaction, Kept::Hours).await?;
    query.begin(minutes, hours);
    let sql = text(&query);
    let SumQuery { endpoint_id, provider_id, api_key_id, model, outcome, label, .. } = &query;
    // Not kept prepared: the times are in the text, so that Postgres reads only the periods they lie in.
    let rows: Vec<SumRow> = run!(transaction, connection => sqlx::query_as(AssertSqlSafe(sql)).persistent(false)
        .bind(organization_id).bind(endpoint_id).bind(provider_id).bind(api_key_id).bind(model)
        .bind(outcome.map(Outcome::as_str)).bind(label).bind(limit)
        .fetch_all(connection).await)?;
    let names = Names::read(transaction, organization_id).await?;
    Ok((rows.into_iter().map(|row| view(&query, &names, row)).collect(), query.from_us))
}

/// The statement. Its parts come from the closed sets here and from numbers; nothing a client wrote is in it.
fn text(query: &SumQuery) -> String {
    let span = match query.interval {
        Interval::Minute => Some(Kept::Minutes.length_us()),
        Interval::Hour => Some(Kept::Hours.length_us()),
        Interval::Day => Some(Kept::Days.length_us()),
        Interval::None => None,
    };
    let span = span.map_or_else(|| "CAST(0 AS BIGINT)".to_owned(), |span| format!("start_us - start_us % {span}"));
    let by = |dimension: Dimension| query.group_by.contains(&dimension);
    let id = |dimension: Dimension, name: &'static str| if by(dimension) { name } else { "CAST(NULL AS UUID)" };
    let word = |dimension: Dimension, name: &'static str| if by(dimension) { name } else { "CAST('' AS TEXT)" };
    let proxy = "CASE WHEN endpoint_id IN (SELECT endpoint.id FROM endpoint WHERE organization_id = $1 \
                 AND kind = 'proxy') THEN endpoint_id END";
    let label = "(SELECT value FROM api_key_label WHERE organization_id = $1 AND name = $7 \
                 AND api_key_label.api_key_id = summed.api_key_id)";
    // The label is looked up after the keys are summed, so it is asked once for each of them.
    let labelled = query.label.is_some();
    let key = if labelled || by(Dimension::Key) { "api_key_id" } else { "CAST(NULL AS UUID)" };
    let sums = FIGURES.map(|figure| format!("CAST(SUM({figure}) AS BIGINT) AS {figure}")).join(", ");
    let figures = FIGURES.join(", ");
    let segments: Vec<String> = query
        .segments()
        .into_iter()
        .map(|(kept, from, to)| {
            if query.is_total() {
                return usage_total::part(kept, from, to);
            }
            format!(
                "SELECT start_us, endpoint_id, provider_id, api_key_id, model, outcome, {figures} FROM usage_rollup \
                 WHERE organization_id = $1 AND grain = '{grain}' AND start_us >= {from} AND start_us < {to} \
                 AND ($2 IS NULL OR endpoint_id = $2) AND ($3 IS NULL OR provider_id = $3) \
                 AND ($4 IS NULL OR api_key_id = $4) AND ($5 IS NULL OR model = $5) \
                 AND ($6 IS NULL OR outcome = $6)",
                grain = kept.as_str(),
            )
        })
        .collect();
    let summed = format!(
        "SELECT {span} AS start_us, {key} AS api_key_id, {endpoint} AS endpoint_id, {proxy} AS proxy_id, \
         {provider} AS provider_id, {model} AS model, {outcome} AS outcome, {sums} FROM ({all}) AS usage_part \
         GROUP BY 1, 2, 3, 4, 5, 6, 7",
        endpoint = id(Dimension::Endpoint, "endpoint_id"),
        proxy = if by(Dimension::Proxy) { proxy } else { "CAST(NULL AS UUID)" },
        provider = id(Dimension::Provider, "provider_id"),
        model = word(Dimension::Model, "model"),
        outcome = word(Dimension::Outcome, "outcome"),
        all = segments.join(" UNION ALL "),
    );
    let label = if labelled { label } else { "CAST($7 AS TEXT)" };
    let key = if by(Dimension::Key) { "api_key_id" } else { "CAST(NULL AS UUID)" };
    format!(
        "SELECT start_us, {key} AS api_key_id, endpoint_id, proxy_id, provider_id, model, outcome, {label} AS label, \
         {sums} FROM ({summed}) AS summed GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8 LIMIT $8"
    )
}

fn view(query: &SumQuery, names: &Names, row: SumRow) -> UsageSum {
    let by = |dimension: Dimension| query.group_by.contains(&dimension);
    UsageSum {
        start: match query.interval {
            Interval::None => None,
            Interval::Minute | Interval::Hour | Interval::Day => {
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(row.start_us) * 1_000).ok()
            }
        },
        key: row.api_key_id.filter(|_| by(Dimension::Key)).map(|id| names.key(id)),
        endpoint: row.endpoint_id.map(|id| names.endpoint(id)),
        proxy: row.proxy_id.map(|id| names.endpoint(id)),
        provider: row.provider_id.filter(|id| !id.is_nil()).map(|id| names.endpoint(id)),
        model: Some(row.model).filter(|model| !model.is_empty()),
        outcome: Outcome::parse(&row.outcome),
        label: row.label,
        figures: Figures {
            requests: row.requests,
            refused: row.refused,
            errors: row.errors,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cached_input_tokens: row.cached_input_tokens,
            cache_write_tokens: row.cache_write_tokens,
            reasoning_tokens: row.reasoning_tokens,
            input_audio_tokens: row.input_audio_tokens,
            output_audio_tokens: row.output_audio_tokens,
            unknown_token_requests: row.unknown_token_requests,
            cost_nanos: row.cost_nanos,
            cost: dollars(row.cost_nanos),
            unpriced_requests: row.unpriced_requests,
            unknown_cost_requests: row.unknown_cost_requests,
            average_duration_ms: average(row.duration_us, row.requests),
            average_first_byte_ms: average(row.first_byte_us, row.first_byte_requests),
            average_first_token_ms: average(row.first_token_us, row.first_token_requests),
        },
    }
}

/// Microseconds over a count, as milliseconds.
fn average(sum_us: i64, count: i64) -> Option<i64> {
    (count > 0).then(|| sum_us / count / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn segments(from_us: i64, to_us: i64, interval: Interval) -> Vec<Segment> {
        SumQuery { from_us, to_us, interval, ..SumQuery::default() }.segments()
    }

    #[test]
    fn a_time_is_covered_once_and_by_the_longest_sums_that_fit() {
        let (from, to) = (10 * DAY + 22 * HOUR + 58 * MINUTE, 13 * DAY + HOUR + MINUTE);
        let expected = [
            (Kept::Minutes, from, 10 * DAY + 23 * HOUR),
            (Kept::Hours, 10 * DAY + 23 * HOUR, 11 * DAY),
            (Kept::Days, 11 * DAY, 13 * DAY),
            (Kept::Hours, 13 * DAY, 13 * DAY + HOUR),
            (Kept::Minutes, 13 * DAY + HOUR, to),
        ];
        assert_eq!(segments(from, to, Interval::None), expected);
        assert_eq!(segments(from, to, Interval::Day), expected);
        assert_eq!(segments(from, to, Interval::Hour).len(), 3);
        assert_eq!(segments(from, to, Interval::Minute), [(Kept::Minutes, from, to)]);
        assert_eq!(segments(DAY, 2 * DAY, Interval::None), [(Kept::Days, DAY, 2 * DAY)]);
        assert_eq!(segments(MINUTE, 2 * MINUTE, Interval::None), [(Kept::Minutes, MINUTE, 2 * MINUTE)]);
        let gaps = segments(from, to, Interval::None);
        assert!(gaps.windows(2).all(|pair| pair[0].2 == pair[1].1));
    }

    #[test]
    fn the_few_rows_over_all_keys_are_read_where_they_will_do() {
        let total = |group_by: &[Dimension], label: Option<&str>, api_key_id: Option<Uuid>| {
            let (group_by, label) = (group_by.to_vec(), label.map(str::to_owned));
            text(&SumQuery { to_us: DAY, group_by, label, api_key_id, ..SumQuery::default() }).contains("usage_total")
        };
        assert!(total(&[], None, None) && total(&[Dimension::Outcome, Dimension::Model], None, None));
        for other in [Dimension::Key, Dimension::Endpoint, Dimension::Proxy, Dimension::Provider] {
            assert!(!total(&[Dimension::Model, other], None, None), "{other:?}");
        }
        assert!(!total(&[], Some("team"), None) && !total(&[], None, Some(Uuid::nil())));
    }

    #[test]
    fn a_time_whose_minutes_are_gone_begins_at_a_whole_hour_or_day() {
        let begin = |minutes, hours| {
            let mut query = SumQuery { from_us: 5 * DAY + 3 * HOUR + 90_000_000, ..SumQuery::default() };
            query.begin(minutes, hours);
            query.from_us
        };
        assert_eq!(begin(None, None), 5 * DAY + 3 * HOUR + MINUTE);
        assert_eq!(begin(Some(6 * DAY), Some(DAY)), 5 * DAY + 3 * HOUR);
        assert_eq!(begin(Some(9 * DAY), Some(6 * DAY)), 5 * DAY);
    }
}
