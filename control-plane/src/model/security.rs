//! What guards an endpoint, and the parts of an endpoint that every kind has alike.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema};

use super::duration::Duration;
use super::error::Violation;
use super::key_location::{self, KeyLocation};

/// How callers prove themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// By a gateway API key.
    #[serde(default)]
    pub api_key: ApiKeySecurity,
}

/// Where a gateway API key may travel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeySecurity {
    /// In order; the first that carries a value decides. Empty or absent when written: the template's.
    #[serde(default)]
    pub locations: Vec<KeyLocation>,
}

impl Security {
    /// The template's locations where none were given, then the checks.
    pub fn accept(&mut self, default: &[KeyLocation], violations: &mut Vec<Violation>) {
        if self.api_key.locations.is_empty() {
            default.clone_into(&mut self.api_key.locations);
        }
        key_location::check(&self.api_key.locations, "/security/apiKey/locations", violations);
    }
}

/// How long a gateway waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// For a connection to the upstream, TLS included; 5 s by default.
    #[serde(default = "Timeouts::connect")]
    pub connect: Duration,
    /// From the request's end to the first byte of the answer; 600 s by default, as reasoning models answer late.
    #[serde(default = "Timeouts::first_byte")]
    pub first_byte: Duration,
    /// Between two bytes of an answer; 300 s by default.
    #[serde(default = "Timeouts::idle")]
    pub idle: Duration,
    /// For the whole request, over all attempts and to the end of the answer; absent: the gateway's, which is none unless
    /// a node sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Self::connect(), first_byte: Self::first_byte(), idle: Self::idle(), total: None }
    }
}

impl Timeouts {
    const fn connect() -> Duration {
        Duration::from_secs(5)
    }

    const fn first_byte() -> Duration {
        Duration::from_secs(600)
    }

    const fn idle() -> Duration {
        Duration::from_secs(300)
    }

    /// Neither nothing nor forever.
    pub fn check(&self, violations: &mut Vec<Violation>) {
        let limits = [
            ("connect", Some(self.connect), Duration::from_secs(60)),
            ("firstByte", Some(self.first_byte), Duration::from_secs(3600)),
            ("idle", Some(self.idle), Duration::from_secs(3600)),
            ("total", self.total, Duration::from_secs(86_400)),
        ];
        for (member, value, most) in limits {
            let Some(value) = value else { continue };
            if value < Duration::from_millis(10) || value > most {
                let message = format!("must be between 10ms and {most}");
                violations.push(Violation::invalid(format!("/timeouts/{member}"), message));
            }
        }
    }
}

/// What a body may be limited to, at most: beyond it numbers stop being exact in JavaScript.
const MOST_BODY: u64 = 1 << 50;

/// A limit of nothing would be an endpoint switched off.
pub(super) fn check_body(bytes: Option<u64>, violations: &mut Vec<Violation>) {
    if bytes.is_some_and(|bytes| !(1..=MOST_BODY).contains(&bytes)) {
        violations.push(Violation::invalid("/maxBodyBytes", format!("must be between 1 and {MOST_BODY}")));
    }
}

/// What vendors may do to their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Compression {
    /// Nothing: they are asked for plain answers, so that usage can be read.
    #[default]
    Identity,
    /// What the client says it can read; an answer that comes compressed has no token counts.
    PassThrough,
}

/// How tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageReading {
    /// A stream that carries usage only when asked is asked for it where the client does not, and what comes of it is
    /// hidden from the client. False: such streams have no token counts.
    #[serde(default = "yes")]
    pub ask: bool,
}

impl Default for UsageReading {
    fn default() -> Self {
        Self { ask: true }
    }
}

/// What is allowed unless it is said otherwise.
pub(super) const fn yes() -> bool {
    true
}

/// How often a request may be sent again when it fails before an answer has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// Further attempts after the first, 0 to 5. Absent: one for each other target, at most two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u8>,
}

impl Retries {
    /// More would only multiply the load of vendors that fail.
    const MOST: u8 = 5;

    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// A handful.
    pub fn check(&self, violations: &mut Vec<Violation>) {
        if self.attempts.is_some_and(|attempts| attempts > Self::MOST) {
            violations.push(Violation::invalid("/retries/attempts", format!("must be between 0 and {}", Self::MOST)));
        }
    }
}

/// A field whose shape is not settled: only its absence is accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reserved(Value);

impl Reserved {
    /// Null, `{}` and `[]` say nothing.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
}

impl utoipa::PartialSchema for Reserved {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::SchemaType::AnyValue)
            .description(Some("Not supported yet: anything but an empty value is refused."))
            .into()
    }
}

impl ToSchema for Reserved {}

/// What nothing enforces yet is refused, never stored and ignored.
pub fn refuse_unenforced(reserved: [(&str, &Reserved); 1], violations: &mut Vec<Violation>) {
    for (member, value) in reserved {
        if !value.is_empty() {
            violations.push(Violation::not_supported(format!("/{member}")));
        }
    }
}

/// Texts for people.
pub fn check_texts(display_name: &str, description: &str, violations: &mut Vec<Violation>) {
    for (member, text, most) in [("displayName", display_name, 100), ("description", description, 1000)] {
        if text.chars().count() > most || text.chars().any(|letter| letter.is_control() && letter != '\n') {
            let message = format!("must be at most {most} characters, none of them control characters");
            violations.push(Violation::invalid(format!("/{member}"), message));
        }
    }
}
