//! API keys: what opens endpoints.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::duration::Duration;
use super::error::{Error, Violation};
use super::limit::{self, Limit};
use super::models::Models;
use super::resource::Noun;

/// What is told about a key; never the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// `lgk_<id>_...<last4>`.
    pub display: String,
    /// Names of the endpoints it opens.
    pub endpoints: Vec<String>,
    /// Which models it may ask for, under which names.
    pub models: Models,
    /// Addresses (CIDR) that it may be used from; empty: all.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
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
    /// What people say of it, such as a team; usage can be summed by each.
    pub labels: BTreeMap<String, String>,
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
    /// Which models it may ask for, under which names.
    #[serde(default)]
    pub models: Models,
    /// Addresses (CIDR) that it may be used from, as the gateway sees its peer; empty: all.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// When it ends; null or absent: never.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// In place of `expiresAt`: from now.
    #[serde(default)]
    pub expires_in: Option<Duration>,
    /// How much it may be used, over all endpoints together.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// What people say of it, such as `{"team": "search"}`: usage can be summed by each, also what was used before.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Noun for ApiKeyInput {
    const INPUT: &'static str = "ApiKeyInput";
}

/// What a key is bound to beside its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Which models it may ask for, under which names.
    #[serde(default)]
    pub models: Models,
    /// Addresses that it may be used from, host bits cleared; empty: all.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
}

impl ApiKeyInput {
    /// What it is bound to beside its endpoints.
    pub fn scope(&self) -> Result<Scope, Vec<Violation>> {
        let mut violations = Vec::new();
        self.models.check(&mut violations);
        if self.addresses.len() > ADDRESSES {
            violations.push(Violation::invalid("/addresses", format!("must be at most {ADDRESSES}")));
        }
        let mut addresses: Vec<IpNet> = Vec::new();
        for (index, network) in self.addresses.iter().enumerate() {
            match plain(*network) {
                Some(network) if !addresses.contains(&network) => addresses.push(network),
                Some(_) => violations.push(Violation::invalid(format!("/addresses/{index}"), "is named twice")),
                None => {
                    let message = "covers IPv4 in its IPv6 form and more: write IPv4 ranges as IPv4";
                    violations.push(Violation::invalid(format!("/addresses/{index}"), message));
                }
            }
        }
        if violations.is_empty() { Ok(Scope { models: self.models.clone(), addresses }) } else { Err(violations) }
    }

    /// Checks the rules about how much it may be used.
    pub fn check_limits(&self) -> Result<(), Error> {
        let mut violations = Vec::new();
        limit::check(&self.limits, &mut violations);
        if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
    }

    /// Checks what people say of it.
    pub fn check_labels(&self) -> Result<(), Error> {
        let mut violations = Vec::new();
        if self.labels.len() > LABELS {
            violations.push(Violation::invalid("/labels", format!("must be at most {LABELS}")));
        }
        for (name, value) in &self.labels {
            let pointer = format!("/labels/{}", name.replace('~', "~0").replace('/', "~1"));
            let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let plain = name.bytes().all(|byte| letter(byte) || b"._-".contains(&byte));
            if !plain || name.len() > LABEL_NAME || !name.bytes().next().is_some_and(letter) {
                let message =
                    format!("is no name: 1 to {LABEL_NAME} of a-z, 0-9, `.`, `_` and `-`, a letter or digit first");
                violations.push(Violation::invalid(pointer, message));
            } else if value.is_empty() || value.len() > LABEL_VALUE || value.chars().any(char::is_control) {
                let message = format!("must be 1 to {LABEL_VALUE} bytes of text");
                violations.push(Violation::invalid(pointer, message));
            }
        }
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

/// A range without host bits, IPv4 in its IPv6 form (`::ffff:10.0.0.0/104`) as IPv4; `None`: half of that form.
fn plain(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(wide) = network else { return Some(network.trunc()) };
    match (wide.addr().to_ipv4_mapped(), wide.prefix_len().checked_sub(96)) {
        (Some(address), Some(length)) => IpNet::new(address.into(), length).ok().map(|network| network.trunc()),
        (Some(_), None) => None,
        (None, _) => Some(network.trunc()),
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
/// At most, in one key.
const ADDRESSES: usize = 64;
/// At most, of one key.
const LABELS: usize = 16;
/// Bytes of a label's name, at most.
const LABEL_NAME: usize = 63;
/// Bytes of what a label says, at most.
const LABEL_VALUE: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope(addresses: &serde_json::Value) -> Result<Vec<String>, Vec<String>> {
        let input: ApiKeyInput = serde_json::from_value(json!({"endpoints": ["a"], "addresses": addresses})).unwrap();
        let texts = |scope: Scope| scope.addresses.iter().map(ToString::to_string).collect();
        let pointers = |violations: Vec<Violation>| violations.into_iter().map(|violation| violation.pointer).collect();
        input.scope().map(texts).map_err(pointers)
    }

    #[test]
    fn labels_have_plain_names_and_say_something() {
        let check = |labels: serde_json::Value| {
            let input: ApiKeyInput = serde_json::from_value(json!({"endpoints": ["a"], "labels": labels})).unwrap();
            match input.check_labels() {
                Ok(()) => Vec::new(),
                Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.pointer).collect(),
                Err(other) => panic!("{other:?}"),
            }
        };
        assert!(check(json!({"team": "Suche & Ärger", "cost-center.eu_1": "7"})).is_empty());
        let wrong = json!({"": "a", "Team": "a", "a/b": "a", "-a": "a", "ok": "", "tab": "a\tb", "a,b": "c"});
        let pointers =
            ["/labels/", "/labels/-a", "/labels/Team", "/labels/a,b", "/labels/a~1b", "/labels/ok", "/labels/tab"];
        assert_eq!(check(wrong), pointers);
        let many: serde_json::Map<_, _> = (0..17).map(|number| (format!("n{number}"), json!("a"))).collect();
        assert_eq!(check(many.into()), ["/labels"]);
    }

    #[test]
    fn ranges_lose_their_host_bits_and_ipv4_has_one_form() {
        let written = json!(["10.1.2.3/8", "2001:db8::1/32", "::ffff:192.168.1.1/112", "::1/128"]);
        let kept = ["10.0.0.0/8", "2001:db8::/32", "192.168.0.0/16", "::1/128"].map(str::to_owned);
        assert_eq!(scope(&written), Ok(kept.to_vec()));
        assert_eq!(scope(&json!(["10.0.0.0/8", "10.9.9.9/8"])), Err(vec!["/addresses/1".to_owned()]));
        assert_eq!(scope(&json!(["::ffff:0.0.0.0/90"])), Err(vec!["/addresses/0".to_owned()]));
    }
}
