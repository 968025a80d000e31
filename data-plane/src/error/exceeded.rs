//! How a limit that refuses is told: in words, and in the headers by which each vendor's SDK backs off by itself.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::SHOULD_RETRY;
use crate::dialect::Dialect;
use crate::limit::reservation::Exceeded;
use crate::limit::rule::{Metric, Owner};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// SDKs obey no longer pause, and would come back early instead.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which limit, and when it frees.
pub(super) fn message(exceeded: &Exceeded) -> String {
    let Exceeded { rule, owner, provider, metric, measured, allowed, window, frees_in, frees_at_us: _ } = exceeded;
    let owner = match (provider, owner) {
        (Some(provider), _) => format!("the provider `{provider}`"),
        (None, Owner::ApiKey(_)) => "this API key".to_owned(),
        (None, Owner::Endpoint(_)) => "this endpoint".to_owned(),
    };
    let per = if window.is_empty() { "at once".to_owned() } else { format!("per {window}") };
    let amount = |amount: u64| match metric {
        Metric::Cost => dollars(amount),
        _ => amount.to_string(),
    };
    let (allowed, measured) = (amount(*allowed), amount(*measured));
    let metric = if *metric == Metric::Cost { "cost" } else { metric.label() };
    match frees_in {
        Some(wait) => format!(
            "The limit `{rule}` of {owner} is reached: {allowed} {metric} {per}, {measured} used. Nothing was \
             sent to the vendor. It frees in {} seconds; send the request again then, or ask an administrator to \
             raise it.",
            seconds(*wait)
        ),
        None => format!(
            "This request asks for more than the limit `{rule}` of {owner} ever allows: {allowed} {metric} {per}. \
             Nothing was sent to the vendor. Ask for less, or ask an administrator to raise it."
        ),
    }
}

/// `$2.5` of nano-dollars.
fn dollars(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    format!("${}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// In the dialect's own names.
pub(super) fn headers(exceeded: &Exceeded, dialect: Option<Dialect>, headers: &mut HeaderMap) {
    let mut put = |name: &str, value: String| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    if let Some(wait) = exceeded.frees_in {
        put(RETRY_AFTER.as_str(), seconds(wait).to_string());
        put(RETRY_AFTER_MS.as_str(), wait.as_millis().saturating_add(1).to_string());
    }
    let left = exceeded.allowed.saturating_sub(exceeded.measured);
    let kind = kind(exceeded.metric, dialect);
    match dialect {
        Some(Dialect::OpenAi | Dialect::Mistral) => {
            put(&format!("x-ratelimit-limit-{kind}"), exceeded.allowed.to_string());
            put(&format!("x-ratelimit-remaining-{kind}"), left.to_string());
            if let Some(wait) = exceeded.frees_in {
                put(&format!("x-ratelimit-reset-{kind}"), format!("{}s", seconds(wait)));
            }
        }
        Some(Dialect::Anthropic) => {
            put(&format!("anthropic-ratelimit-{kind}-limit"), exceeded.allowed.to_string());
            put(&format!("anthropic-ratelimit-{kind}-remaining"), left.to_string());
            if let Some(at) = exceeded.frees_at_us {
                put(&format!("anthropic-ratelimit-{kind}-reset"), rfc3339(at / 1_000_000));
            }
        }
        // They have no names of their own.
        Some(Dialect::Gemini | Dialect::Bedrock) | None => {}
    }
    if exceeded.frees_in.is_none_or(|wait| wait > PATIENCE) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        if exceeded.frees_in.is_none() {
            headers.remove(RETRY_AFTER);
        }
    }
}

/// The vendors know requests and tokens.
const fn kind(metric: Metric, dialect: Option<Dialect>) -> &'static str {
    match (metric, dialect) {
        (Metric::Requests | Metric::ConcurrentRequests, _) => "requests",
        (Metric::InputTokens, Some(Dialect::Anthropic)) => "input-tokens",
        (Metric::OutputTokens, Some(Dialect::Anthropic)) => "output-tokens",
        (Metric::InputTokens | Metric::OutputTokens | Metric::TotalTokens, _) => "tokens",
        (Metric::Cost, _) => "cost",
    }
}

/// Begun ones count whole, so that nobody comes back too early.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() != 0)).max(1)
}

/// `2026-01-31T12:00:00Z`, of the second after this one: never too early.
fn rfc3339(unix_seconds: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(unix_seconds.min(4_102_444_800) + 1);
    // `Sat, 31 Jan 2026 12:00:00 GMT`
    let text = httpdate::fmt_http_date(at);
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(&text[8..11]).unwrap_or_default() / 3 + 1;
    format!("{}-{month:02}-{}T{}Z", &text[12..16], &text[5..7], &text[17..25])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn exceeded(metric: Metric, frees_in: Option<Duration>) -> Exceeded {
        Exceeded {
            rule: "team".into(),
            owner: Owner::ApiKey(Uuid::nil()),
            provider: None,
            metric,
            measured: 9,
            allowed: 10,
            window: "60s".into(),
            frees_in,
            frees_at_us: frees_in.map(|_| 1_706_702_400_000_000),
        }
    }

    fn told(metric: Metric, wait: Option<Duration>, dialect: Dialect) -> Vec<String> {
        let mut map = HeaderMap::new();
        map.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        headers(&exceeded(metric, wait), Some(dialect), &mut map);
        let mut lines: Vec<_> =
            map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn every_vendors_sdk_finds_its_own_names() {
        let wait = Some(Duration::from_millis(1500));
        assert_eq!(
            told(Metric::TotalTokens, wait, Dialect::OpenAi),
            [
                "retry-after-ms: 1501",
                "retry-after: 2",
                "x-ratelimit-limit-tokens: 10",
                "x-ratelimit-remaining-tokens: 1",
                "x-ratelimit-reset-tokens: 2s",
            ]
        );
        assert_eq!(
            told(Metric::InputTokens, wait, Dialect::Anthropic),
            [
                "anthropic-ratelimit-input-tokens-limit: 10",
                "anthropic-ratelimit-input-tokens-remaining: 1",
                "anthropic-ratelimit-input-tokens-reset: 2024-01-31T12:00:01Z",
                "retry-after-ms: 1501",
                "retry-after: 2",
            ]
        );
        assert_eq!(told(Metric::Requests, wait, Dialect::Gemini), ["retry-after-ms: 1501", "retry-after: 2"]);
        let never = told(Metric::Requests, None, Dialect::Bedrock);
        assert_eq!(never, ["x-should-retry: false"], "no pause would help");
        let long = told(Metric::Requests, Some(Duration::from_hours(5)), Dialect::Bedrock);
        assert_eq!(long, ["retry-after-ms: 18000001", "retry-after: 18000", "x-should-retry: false"]);
    }

    #[test]
    fn the_message_names_the_limit_and_when_it_frees() {
        let text = message(&exceeded(Metric::Requests, Some(Duration::from_secs(7))));
        assert!(text.contains("`team` of this API key") && text.contains("10 requests per 60s"), "{text}");
        assert!(text.contains("in 7 seconds"), "{text}");
        assert!(message(&exceeded(Metric::Requests, None)).contains("ever allows"));
    }
}
