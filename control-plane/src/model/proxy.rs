//! LLM proxies: an endpoint for one app over one or several providers, with its own context and keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access_control::AccessControl;
use super::context::Context;
use super::error::{Error, Violation};
use super::key_location::KeyLocation;
use super::limit::{self, Limit};
use super::models::{Models, check_aliases};
use super::resource::Noun;
use super::security::{
    Compression, Reserved, Retries, Security, Timeouts, UsageReading, check_body, check_texts, refuse_unenforced, yes,
};

/// What an author says about a proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySpec {
    /// For people.
    #[serde(default)]
    pub display_name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The first part of its paths on a gateway.
    pub context: Context,
    /// Name or id of the provider it stands on; the same as one target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The providers it stands on, all of one dialect; at most 16.
    #[serde(default)]
    pub targets: Vec<ProxyTarget>,
    /// How one of the targets is chosen.
    #[serde(default, skip_serializing_if = "Routing::is_default")]
    pub routing: Routing,
    /// How callers prove themselves.
    #[serde(default)]
    pub security: Security,
    /// How long a gateway waits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Bytes of a request's body, at most; absent: the smallest of its providers', else the gateway's, 512 MiB unless a
    /// node sets another. Larger than what a node takes from anyone is that instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_body_bytes: Option<u64>,
    /// Answers 403 to everyone. Read live: takes effect without a deployment.
    #[serde(default)]
    pub disabled: bool,
    /// WebSocket may be spoken where the vendor has it; a proxy needs it allowed by its provider too.
    #[serde(default = "yes")]
    pub realtime: bool,
    /// What the vendor may do to its answers.
    #[serde(default)]
    pub compression: Compression,
    /// How tokens are counted.
    #[serde(default)]
    pub usage: UsageReading,
    /// Which requests it lets through at all.
    #[serde(default)]
    pub access_control: AccessControl,
    /// Which models may be asked for, under which names.
    #[serde(default)]
    pub models: Models,
    /// How much it may be used. Read live: takes effect without a deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// Not enforced yet.
    #[serde(default, skip_serializing_if = "Reserved::is_empty")]
    pub policies: Reserved,
    /// How often a request may be sent again.
    #[serde(default, skip_serializing_if = "Retries::is_default")]
    pub retries: Retries,
}

/// One provider of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyTarget {
    /// Name or id when written, name when read; kept as an id.
    pub provider: String,
    /// Share among targets of one priority, 1 to 1000.
    #[serde(default = "one")]
    pub weight: u32,
    /// Lower first, 0 to 100; a higher number is used while no target of a lower one can be.
    #[serde(default)]
    pub priority: u32,
    /// The proxy's name of a model to this provider's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

/// How one target is chosen among those of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Routing {
    /// By what.
    #[serde(default)]
    pub strategy: Strategy,
}

impl Routing {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// By what a target is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// At random, in proportion to the weights.
    #[default]
    Weighted,
    /// The better of two drawn at random, by requests under way, latency and weight.
    LeastPending,
}

/// Of one proxy.
const MOST_TARGETS: usize = 16;
const MOST_WEIGHT: u32 = 1000;
const MOST_PRIORITY: u32 = 100;

const fn one() -> u32 {
    1
}

impl Noun for ProxySpec {
    const INPUT: &'static str = "LlmProxyInput";
}

impl ProxySpec {
    /// The providers that were named, in whichever of the two ways, each with the pointer to it.
    pub fn named(&self) -> Result<Vec<(ProxyTarget, String)>, Violation> {
        let pointer = |index: usize| format!("/targets/{index}/provider");
        match (&self.provider, self.targets.as_slice()) {
            (None, []) => Err(Violation::new("/provider", "required", "name the provider it stands on")),
            (Some(provider), []) => {
                let target =
                    ProxyTarget { provider: provider.clone(), weight: 1, priority: 0, aliases: BTreeMap::new() };
                Ok(vec![(target, "/provider".to_owned())])
            }
            (Some(provider), [first, ..]) if *provider != first.provider => {
                Err(Violation::invalid(pointer(0), "differs from `provider`; give one"))
            }
            (_, targets) if targets.len() > MOST_TARGETS => {
                Err(Violation::invalid("/targets", format!("must be at most {MOST_TARGETS}")))
            }
            (_, targets) => Ok(targets.iter().cloned().enumerate().map(|(at, one)| (one, pointer(at))).collect()),
        }
    }

    /// Checks everything that needs no other row; `default` are the key locations of the first provider's template.
    pub fn accept(mut self, default: &[KeyLocation]) -> Result<Self, Error> {
        let mut violations = Vec::new();
        check_texts(&self.display_name, &self.description, &mut violations);
        for (index, target) in self.targets.iter().enumerate() {
            if !(1..=MOST_WEIGHT).contains(&target.weight) {
                let message = format!("must be between 1 and {MOST_WEIGHT}");
                violations.push(Violation::invalid(format!("/targets/{index}/weight"), message));
            }
            if target.priority > MOST_PRIORITY {
                let message = format!("must be between 0 and {MOST_PRIORITY}");
                violations.push(Violation::invalid(format!("/targets/{index}/priority"), message));
            }
            check_aliases(&target.aliases, &format!("/targets/{index}/aliases"), &mut violations);
        }
        self.security.accept(default, &mut violations);
        self.timeouts.check(&mut violations);
        check_body(self.max_body_bytes, &mut violations);
        self.retries.check(&mut violations);
        self.access_control.check(&mut violations);
        self.models.check(&mut violations);
        limit::check(&self.limits, &mut violations);
        refuse_unenforced([("policies", &self.policies)], &mut violations);
        if violations.is_empty() { Ok(self) } else { Err(Error::Invalid(violations)) }
    }

    /// The form that is kept: one list of targets, by id.
    #[must_use]
    pub fn standing_on(mut self, targets: Vec<ProxyTarget>) -> Self {
        self.provider = None;
        self.targets = targets;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(extra: &Value) -> ProxySpec {
        let mut value = json!({ "context": "/a" });
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn providers_are_named_in_one_way() {
        let named = |extra: Value| {
            let named = spec(&extra).named().map_err(|violation| violation.code)?;
            Ok::<_, &str>(named.into_iter().map(|(target, pointer)| (target.provider, pointer)).collect::<Vec<_>>())
        };
        let one = |pointer: &str| Ok(vec![("p".to_owned(), pointer.to_owned())]);
        assert_eq!(named(json!({ "provider": "p" })), one("/provider"));
        assert_eq!(named(json!({ "targets": [{ "provider": "p" }] })), one("/targets/0/provider"));
        assert_eq!(named(json!({ "provider": "p", "targets": [{ "provider": "p" }] })), one("/targets/0/provider"));
        assert_eq!(named(json!({ "provider": "p", "targets": [{ "provider": "q" }] })), Err("invalid"));
        assert_eq!(named(json!({})), Err("required"));
        let two = named(json!({ "targets": [{ "provider": "p" }, { "provider": "q" }] })).unwrap();
        assert_eq!(two[1], ("q".to_owned(), "/targets/1/provider".to_owned()));
        let many: Vec<Value> = (0..17).map(|number| json!({ "provider": number.to_string() })).collect();
        assert_eq!(named(json!({ "targets": many })), Err("invalid"));
    }

    #[test]
    fn shares_priorities_retries_and_deadlines_have_bounds() {
        let pointers = |extra: Value| match spec(&extra).accept(&[]) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(violations)) => {
                let pointers = violations.into_iter().map(|violation| violation.pointer);
                pointers.filter(|pointer| !pointer.starts_with("/security")).collect()
            }
            Err(other) => panic!("{other:?}"),
        };
        let target = |weight: u32, priority: u32| json!({ "targets": [{ "provider": "p", "weight": weight, "priority": priority }] });
        assert_eq!(pointers(target(1000, 100)), [""; 0]);
        assert_eq!(pointers(target(0, 101)), ["/targets/0/weight", "/targets/0/priority"]);
        assert_eq!(pointers(target(1001, 0)), ["/targets/0/weight"]);
        assert_eq!(pointers(json!({ "retries": { "attempts": 5 }, "timeouts": { "total": "24h" } })), [""; 0]);
        assert_eq!(pointers(json!({ "retries": { "attempts": 6 } })), ["/retries/attempts"]);
        assert_eq!(pointers(json!({ "timeouts": { "total": "1ms" } })), ["/timeouts/total"]);
        assert_eq!(pointers(json!({ "timeouts": { "total": "25h" } })), ["/timeouts/total"]);
    }
}
