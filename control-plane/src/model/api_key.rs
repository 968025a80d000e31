//! API keys: what opens endpoints.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::duration::Duration;
use super::error::{Error, Violation};
use super::limit::{self, Limit};
use super::resource::Noun;

/// What is told about a key; never the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// `lgk_<id>_...<last4>`.
    pub display: String,
    /// Names of the endpoints it opens.
    pub endpoints: Vec<String>,
    /// Whether it opens them now.
    pub status: ApiKeyStatus,
    /// When it ends; null: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Null: never, as far as is known.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// End of the grace in which the key before the last rotation still opens; null: it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    pub previous_expires_at: Option<OffsetDateTime>,
    /// How much it may be used.
    pub limits: Vec<Limit>,
}

/// Whether a key opens anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApiKeyStatus {
    /// It opens its endpoints.
    Active,
    /// Switched off; can be switched on again.
    Disabled,
    /// For good.
    Revoked,
    /// Its time is over.
    Expired,
}

impl ApiKeyStatus {
    /// What holds at a moment; the strongest reason wins.
    pub fn at(now: OffsetDateTime, revoked: bool, disabled: bool, expires_at: Option<OffsetDateTime>) -> Self {
        match (revoked, disabled, expires_at) {
            (true, _, _) => Self::Revoked,
            (false, _, Some(expires_at)) if expires_at <= now => Self::Expired,
            (false, true, _) => Self::Disabled,
            (false, false, _) => Self::Active,
        }
    }
}

/// A key as a client writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeyInput {
    /// Names or ids of providers and proxies.
    pub endpoints: Vec<String>,
    /// When it ends; null or absent: never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// In place of `expiresAt`: from now.
    #[serde(default)]
    pub expires_in: Option<Duration>,
    /// How much it may be used, over all endpoints together.
    #[serde(default)]
    pub limits: Vec<Limit>,
}

impl Noun for ApiKeyInput {
    const INPUT: &'static str = "ApiKeyInput";
}

impl ApiKeyInput {
    /// Checks the rules about how much it may be used.
    pub fn check_limits(&self) -> Result<(), Error> {
        let mut violations = Vec::new();
        limit::check(&self.limits, &mut violations);
        if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
    }

    /// When it ends.
    pub fn expiry(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, Violation> {
        let cut = |at: OffsetDateTime| at.replace_nanosecond(at.nanosecond() / 1000 * 1000).unwrap_or(at);
        match (self.expires_at, self.expires_in) {
            (Some(_), Some(_)) => Err(Violation::invalid("/expiresIn", "give either expiresAt or expiresIn")),
            (Some(at), None) => match at.checked_to_offset(time::UtcOffset::UTC) {
                Some(at) if (1970..=9999).contains(&at.year()) => Ok(Some(cut(at))),
                Some(_) | None => {
                    Err(Violation::invalid("/expiresAt", "must lie between the years 1970 and 9999, in UTC"))
                }
            },
            (None, Some(after)) if after.as_millis() == 0 => Err(Violation::invalid("/expiresIn", "must not be zero")),
            (None, Some(after)) => Ok(Some(cut(now + after.as_time()))),
            (None, None) => Ok(None),
        }
    }
}

/// How a rotation ends the key before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateInput {
    /// How long the key so far still opens; `24h` by default, `168h` at most, `0s`: not a moment longer.
    #[serde(default)]
    pub grace: Option<Duration>,
}

impl RotateInput {
    /// How long.
    pub fn grace(self) -> Result<Duration, Violation> {
        const MOST: Duration = Duration::from_secs(7 * 86_400);
        match self.grace {
            None => Ok(Duration::from_secs(86_400)),
            Some(grace) if grace > MOST => Err(Violation::invalid("/grace", "must be at most 168h")),
            Some(grace) => Ok(grace),
        }
    }
}

/// Switches a key off or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisableInput {
    /// True: off.
    pub disabled: bool,
}

/// At most, in one key.
pub const ENDPOINTS: usize = 200;
