//! LLM proxies: an endpoint for one app over a provider, with its own context and keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::context::Context;
use super::error::{Error, Violation};
use super::key_location::KeyLocation;
use super::resource::Noun;
use super::security::{
    AccessControl, Compression, Models, Reserved, Security, Timeouts, check_texts, refuse_unenforced, yes,
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
    /// The providers it stands on; one for now.
    #[serde(default)]
    pub targets: Vec<ProxyTarget>,
    /// How callers prove themselves.
    #[serde(default)]
    pub security: Security,
    /// How long a gateway waits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Answers 403 to everyone. Read live: takes effect without a deployment.
    #[serde(default)]
    pub disabled: bool,
    /// WebSocket may be spoken where the vendor has it; a proxy needs it allowed by its provider too.
    #[serde(default = "yes")]
    pub realtime: bool,
    /// What the vendor may do to its answers.
    #[serde(default)]
    pub compression: Compression,
    /// Not enforced yet: the default only.
    #[serde(default)]
    pub access_control: AccessControl,
    /// Not enforced yet: the default only.
    #[serde(default)]
    pub models: Models,
    /// Not enforced yet.
    #[serde(default, skip_serializing_if = "Reserved::is_empty")]
    pub limits: Reserved,
    /// Not enforced yet.
    #[serde(default, skip_serializing_if = "Reserved::is_empty")]
    pub policies: Reserved,
    /// Not enforced yet.
    #[serde(default, skip_serializing_if = "Reserved::is_empty")]
    pub retries: Reserved,
}

/// One provider of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyTarget {
    /// Name or id when written, name when read; kept as an id.
    pub provider: String,
    /// Share among targets of one priority; 1 only, for now.
    #[serde(default = "one")]
    pub weight: u32,
    /// Lower first; 0 only, for now.
    #[serde(default)]
    pub priority: u32,
}

const fn one() -> u32 {
    1
}

impl Noun for ProxySpec {
    const INPUT: &'static str = "LlmProxyInput";
}

impl ProxySpec {
    /// The provider that was named, in whichever of the two ways.
    pub fn target(&self) -> Result<(String, &'static str), Violation> {
        match (&self.provider, self.targets.as_slice()) {
            (None, []) => Err(Violation::new("/provider", "required", "name the provider it stands on")),
            (Some(provider), []) => Ok((provider.clone(), "/provider")),
            (None, [target]) => Ok((target.provider.clone(), "/targets/0/provider")),
            (Some(provider), [target]) if *provider == target.provider => Ok((provider.clone(), "/provider")),
            (Some(_), [_]) => Err(Violation::invalid("/targets/0/provider", "differs from `provider`; give one")),
            (_, [_, _, ..]) => Err(Violation::not_supported("/targets")),
        }
    }

    /// Checks everything that needs no other row; `default` are the key locations of the provider's template.
    pub fn accept(mut self, default: &[KeyLocation]) -> Result<Self, Error> {
        let mut violations = Vec::new();
        check_texts(&self.display_name, &self.description, &mut violations);
        for (index, target) in self.targets.iter().enumerate() {
            if target.weight != 1 {
                violations.push(Violation::not_supported(format!("/targets/{index}/weight")));
            }
            if target.priority != 0 {
                violations.push(Violation::not_supported(format!("/targets/{index}/priority")));
            }
        }
        self.security.accept(default, &mut violations);
        self.timeouts.check(&mut violations);
        let reserved = [("limits", &self.limits), ("policies", &self.policies), ("retries", &self.retries)];
        refuse_unenforced(&self.access_control, &self.models, reserved, &mut violations);
        if violations.is_empty() { Ok(self) } else { Err(Error::Invalid(violations)) }
    }

    /// The form that is kept: one list of targets, by id.
    #[must_use]
    pub fn standing_on(mut self, provider_id: String) -> Self {
        self.provider = None;
        self.targets = vec![ProxyTarget { provider: provider_id, weight: 1, priority: 0 }];
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_provider_is_named_in_one_way_and_more_than_one_is_not_supported() {
        let target = |extra: serde_json::Value| {
            let mut value = json!({ "context": "/a" });
            value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            serde_json::from_value::<ProxySpec>(value).unwrap().target().map_err(|violation| violation.code)
        };
        assert_eq!(target(json!({ "provider": "p" })).unwrap().0, "p");
        assert_eq!(target(json!({ "targets": [{ "provider": "p" }] })).unwrap().0, "p");
        assert_eq!(target(json!({ "provider": "p", "targets": [{ "provider": "p" }] })).unwrap().0, "p");
        assert_eq!(target(json!({ "provider": "p", "targets": [{ "provider": "q" }] })), Err("invalid"));
        assert_eq!(target(json!({ "targets": [{ "provider": "p" }, { "provider": "q" }] })), Err("not_supported"));
        assert_eq!(target(json!({})), Err("required"));
    }
}
