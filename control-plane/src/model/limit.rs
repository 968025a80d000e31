//! Limits: how much of something an endpoint or an API key may use in a window. What is said here is enforced by the
//! nodes, live: no deployment freezes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::duration::Duration;
use super::error::Violation;
use super::name::Name;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// Unique in its list. What is counted belongs to name, metric and kind of window: another number keeps the count.
    pub name: Name,
    /// What is counted.
    pub metric: LimitMetric,
    /// At most so much in a window, or at once. Of `cost`: nano-dollars, or dollars as a decimal string such as `"2.50"`.
    #[serde(deserialize_with = "amount")]
    #[schema(value_type = u64)]
    pub limit: u64,
    /// In which time; absent for `concurrentRequests` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<LimitWindow>,
    /// Paths of the vendor it counts, with `{param}` for a segment and a trailing `/*`; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Models it counts, asked for or sent: exact, or a beginning that ends in `*`; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Whether it refuses.
    #[serde(default)]
    pub mode: LimitMode,
    /// Of `cost`: what becomes of a request whose price is not known.
    #[serde(default)]
    pub unpriced: Unpriced,
    /// Tokens of output to reserve for a request that does not bound them itself; what it came to is settled when it
    /// ends. 1024 by default.
    #[serde(default = "Limit::output_estimate")]
    pub output_estimate: u64,
    /// Of `cost`, `outputTokens` and `totalTokens`: a request that does not say how much it may put out at most, or whose
    /// input cannot be bounded, is refused. What is reserved is then the most that it can come to, so the limit is never
    /// exceeded.
    #[serde(default)]
    pub require_output_bound: bool,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitMetric {
    /// Requests that were sent.
    Requests,
    /// Tokens of input.
    InputTokens,
    /// Tokens of output.
    OutputTokens,
    /// Both.
    TotalTokens,
    /// Nano-dollars.
    Cost,
    /// Requests in flight.
    ConcurrentRequests,
}

impl LimitMetric {
    const fn counts_output(self) -> bool {
        match self {
            Self::Cost | Self::OutputTokens | Self::TotalTokens => true,
            Self::Requests | Self::InputTokens | Self::ConcurrentRequests => false,
        }
    }
}

/// Whether a rule refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitMode {
    /// Beyond it requests are refused.
    #[default]
    Enforce,
    /// It counts what it would have refused, and never does.
    Shadow,
}

/// What becomes of a request whose price is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unpriced {
    /// It is refused: what has no price is not free.
    #[default]
    Refuse,
    /// It passes, uncounted.
    Allow,
}

/// A time in which something is counted: rolling from `1s` to `24h`, or a calendar `day` or `month` in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitWindow {
    /// What was used flows off evenly.
    Rolling(Duration),
    /// From midnight to midnight, UTC.
    Day,
    /// From the first to the first, UTC.
    Month,
}

/// The text is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration from `1s` to `24h`, or `day` or `month`")]
pub struct WrongWindow;

impl FromStr for LimitWindow {
    type Err = WrongWindow;

    fn from_str(text: &str) -> Result<Self, WrongWindow> {
        match text {
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            _ => {
                let duration: Duration = text.parse().map_err(|_| WrongWindow)?;
                let fits = (1000..=86_400_000).contains(&duration.as_millis());
                if fits { Ok(Self::Rolling(duration)) } else { Err(WrongWindow) }
            }
        }
    }
}

impl fmt::Display for LimitWindow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(duration) => duration.fmt(formatter),
            Self::Day => formatter.write_str("day"),
            Self::Month => formatter.write_str("month"),
        }
    }
}

impl Serialize for LimitWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LimitWindow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for LimitWindow {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^([0-9]+(ms|s|m|h|d)|day|month)$"))
            .examples(["1m"])
            .into()
    }
}

impl ToSchema for LimitWindow {}

/// A period of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarPeriod {
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

impl CalendarPeriod {
    /// Unix milliseconds at which the period of this moment is over.
    pub fn end_ms(self, at: OffsetDateTime) -> i64 {
        let day = at.to_offset(time::UtcOffset::UTC).date();
        let next = match self {
            Self::Day => day.next_day(),
            Self::Month => {
                let first = day.replace_day(1).unwrap_or(day);
                first.checked_add(time::Duration::days(31)).and_then(|next| next.replace_day(1).ok())
            }
        };
        let midnight = next.unwrap_or(time::Date::MAX).midnight().assume_utc();
        midnight.unix_timestamp().saturating_mul(1000)
    }
}

/// Rules of one endpoint or key, at most.
const MOST: usize = 32;
/// The largest number that every reader of JSON keeps exactly is a little larger.
const MOST_AMOUNT: u64 = 1_000_000_000_000_000;
const NANOS: u64 = 1_000_000_000;

impl Limit {
    const fn output_estimate() -> u64 {
        1024
    }
}

/// Checks a list of rules.
pub fn check(limits: &[Limit], violations: &mut Vec<Violation>) {
    if limits.len() > MOST {
        violations.push(Violation::invalid("/limits", format!("must be at most {MOST}")));
    }
    for (index, limit) in limits.iter().enumerate() {
        let Limit {
            name,
            metric,
            limit: most,
            window,
            resources,
            models,
            mode: _,
            unpriced: _,
            output_estimate,
            require_output_bound,
        } = limit;
        let mut wrong = |member: &str, message: String| {
            violations.push(Violation::invalid(format!("/limits/{index}/{member}"), message));
        };
        if limits[..index].iter().any(|other| other.name == *name) {
            wrong("name", "must be unique in the list".to_owned());
        }
        if *most == 0 || *most > MOST_AMOUNT {
            wrong("limit", format!("must be between 1 and {MOST_AMOUNT}"));
        }
        if *output_estimate > 10_000_000 {
            wrong("outputEstimate", "must be at most 10000000".to_owned());
        }
        match (metric, window) {
            (LimitMetric::ConcurrentRequests, Some(_)) => {
                wrong("window", "must be absent: requests in flight have no window".to_owned());
            }
            (LimitMetric::ConcurrentRequests, None) | (_, Some(_)) => {}
            (_, None) => wrong("window", WrongWindow.to_string()),
        }
        for (at, path) in resources.iter().enumerate() {
            if !is_pattern(path) {
                let message = "must be a path such as `/v1/files/{file}` or `/v1/files/*`".to_owned();
                wrong(&format!("resources/{at}"), message);
            }
        }
        if resources.len() > 64 {
            wrong("resources", "must be at most 64".to_owned());
        }
        for (at, model) in models.iter().enumerate() {
            if !is_model(model) {
                let message = "must be a model, or the beginning of some that ends in `*`".to_owned();
                wrong(&format!("models/{at}"), message);
            }
        }
        if models.len() > 64 {
            wrong("models", "must be at most 64".to_owned());
        }
        if *require_output_bound && !metric.counts_output() {
            wrong("requireOutputBound", "must be of `cost`, `outputTokens` or `totalTokens`".to_owned());
        }
    }
}

/// A name, or the beginning of names.
fn is_model(model: &str) -> bool {
    let name = model.strip_suffix('*').unwrap_or(model);
    !model.is_empty() && model.len() <= 256 && !name.contains('*') && !name.contains(char::is_control)
}

/// `/a/{b}/*`: whole segments, a parameter stands for one, a star at the end for any number.
fn is_pattern(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let segments: Vec<&str> = rest.split('/').collect();
    path.len() <= 512
        && segments.iter().enumerate().all(|(at, segment)| {
            let parameter = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
            match parameter {
                Some(name) => !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                None if *segment == "*" => at + 1 == segments.len(),
                None => {
                    (!segment.is_empty() || (at == 0 && segments.len() == 1))
                        && segment.bytes().all(|byte| byte.is_ascii_graphic() && !b"*{}?#\\".contains(&byte))
                }
            }
        })
}

/// A whole number, or dollars as text.
fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    const WRONG: &str = "must be a whole number, or dollars as a decimal string such as \"2.50\"";
    match Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(WRONG))? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => nanos(&text).ok_or_else(|| serde::de::Error::custom(WRONG)),
    }
}

/// Dollars to nano-dollars, exactly.
fn nanos(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(NANOS)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(extra: &Value) -> Result<Limit, String> {
        let mut value = json!({ "name": "all", "metric": "requests", "limit": 5, "window": "1m" });
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn pointers(limits: &[Limit]) -> Vec<String> {
        let mut violations = Vec::new();
        check(limits, &mut violations);
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn money_is_read_exactly_and_kept_as_nano_dollars() {
        for (written, nanos) in [(json!("2.50"), 2_500_000_000), (json!("0.000000001"), 1), (json!(7), 7)] {
            let limit = parse(&json!({ "metric": "cost", "limit": written })).unwrap();
            assert_eq!(limit.limit, nanos);
            assert_eq!(serde_json::to_value(&limit).unwrap()["limit"], nanos);
        }
        for written in [json!("1e3"), json!("-1"), json!("0.0000000001"), json!(""), json!(1.5), json!("1.")] {
            assert!(parse(&json!({ "limit": written })).is_err(), "{written}");
        }
    }

    #[test]
    fn periods_end_where_the_calendar_says() {
        // 2024-02-28T12:00:00Z, 2024-12-31T23:59:59Z, 2026-11-30T00:00:00Z, as the nodes say.
        for (at, day, month) in [
            (1_709_121_600, 1_709_164_800_000, 1_709_251_200_000),
            (1_735_689_599, 1_735_689_600_000, 1_735_689_600_000),
            (1_795_996_800, 1_796_083_200_000, 1_796_083_200_000),
        ] {
            let at = OffsetDateTime::from_unix_timestamp(at).unwrap();
            assert_eq!((CalendarPeriod::Day.end_ms(at), CalendarPeriod::Month.end_ms(at)), (day, month), "{at}");
        }
    }

    #[test]
    fn windows_are_rolling_or_of_the_calendar() {
        for (written, read) in [("1s", "1s"), ("1m", "60s"), ("24h", "86400s"), ("day", "day"), ("month", "month")] {
            assert_eq!(parse(&json!({ "window": written })).unwrap().window.unwrap().to_string(), read);
        }
        for written in ["999ms", "25h", "week", "", "1"] {
            assert!(parse(&json!({ "window": written })).is_err(), "{written}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_pointer() {
        let good = parse(&json!({})).unwrap();
        assert_eq!(pointers(std::slice::from_ref(&good)), [""; 0]);
        assert_eq!(pointers(&[good.clone(), good.clone()]), ["/limits/1/name"]);
        for (extra, pointer) in [
            (json!({ "limit": 0 }), "limit"),
            (json!({ "limit": 2_000_000_000_000_000_u64 }), "limit"),
            (json!({ "window": null }), "window"),
            (json!({ "metric": "concurrentRequests" }), "window"),
            (json!({ "resources": ["/ok", "v1"] }), "resources/1"),
            (json!({ "resources": ["/a/*/b"] }), "resources/0"),
            (json!({ "resources": ["/a/{}"] }), "resources/0"),
            (json!({ "resources": ["/a//b"] }), "resources/0"),
            (json!({ "models": ["gpt-4*", "*-mini"] }), "models/1"),
            (json!({ "models": [""] }), "models/0"),
            (json!({ "requireOutputBound": true }), "requireOutputBound"),
        ] {
            assert_eq!(pointers(&[parse(&extra).unwrap()]), [format!("/limits/0/{pointer}")], "{extra}");
        }
        assert_eq!(pointers(&vec![good; 33])[0], "/limits");
    }
}
