//! LLM providers: a connection to one vendor account.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access_control::AccessControl;
use super::context::Context;
use super::error::{Error, Violation};
use super::limit::{self, Limit};
use super::models::Models;
use super::resource::{Noun, Warning};
use super::security::{
    Compression, Reserved, Retries, Security, Timeouts, UsageReading, check_body, check_texts, refuse_unenforced, yes,
};
use super::template::Template;
use super::upstream::{self, Credential, CredentialInput, Upstream};

/// What an author says about a provider. `C` is the credential: as kept, or as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderSpec<C = Credential> {
    /// For people.
    #[serde(default)]
    pub display_name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Name of a template.
    pub template: String,
    /// The first part of its paths on a gateway.
    pub context: Context,
    /// Where requests go.
    #[serde(default = "Upstream::default")]
    pub upstream: Upstream<C>,
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

/// A provider as a client writes it.
pub type ProviderInput = ProviderSpec<CredentialInput>;

impl Noun for ProviderInput {
    const INPUT: &'static str = "LlmProviderInput";
}

impl ProviderInput {
    /// Checks everything that needs no other row; fills in what the template gives.
    pub fn accept(mut self, template: &Template, networks: &[IpNet]) -> Result<(Self, Vec<Warning>), Error> {
        let mut violations = Vec::new();
        check_texts(&self.display_name, &self.description, &mut violations);
        let mut warnings = Vec::new();
        match upstream::accept_url(&self.upstream.url, &template.spec, networks) {
            Ok(accepted) => {
                self.upstream.url = accepted.url;
                warnings = accepted.warnings;
            }
            Err(violation) => violations.push(violation),
        }
        if let Some(pem) = &self.upstream.ca_pem {
            upstream::check_ca(pem, &mut violations);
        }
        if let Some(credential) = &self.upstream.credential {
            check_credential(credential, &mut violations);
        }
        self.security.accept(&template.spec.key_locations, &mut violations);
        self.timeouts.check(&mut violations);
        check_body(self.max_body_bytes, &mut violations);
        self.retries.check(&mut violations);
        self.access_control.check(&mut violations);
        self.models.check(&mut violations);
        limit::check(&self.limits, &mut violations);
        refuse_unenforced([("policies", &self.policies)], &mut violations);
        if violations.is_empty() { Ok((self, warnings)) } else { Err(Error::Invalid(violations)) }
    }

    /// The spec to keep, its credential now a secret.
    pub fn with_credential(self, credential: Option<Credential>) -> ProviderSpec {
        let Self {
            display_name,
            description,
            template,
            context,
            upstream: Upstream { url, credential: _, ca_pem },
            security,
            timeouts,
            max_body_bytes,
            disabled,
            realtime,
            compression,
            usage,
            access_control,
            models,
            limits,
            policies,
            retries,
        } = self;
        ProviderSpec {
            display_name,
            description,
            template,
            context,
            upstream: Upstream { url, credential, ca_pem },
            security,
            timeouts,
            max_body_bytes,
            disabled,
            realtime,
            compression,
            usage,
            access_control,
            models,
            limits,
            policies,
            retries,
        }
    }
}

fn check_credential(credential: &CredentialInput, violations: &mut Vec<Violation>) {
    const POINTER: &str = "/upstream/credential";
    match (&credential.value, &credential.secret) {
        (Some(_), Some(_)) => violations.push(Violation::invalid(POINTER, "must be either a value or a secret")),
        (None, None) => violations.push(Violation::new(POINTER, "required", "must be a value or a secret")),
        (Some(value), None) => {
            if let Err(message) = super::secret::check_value(value) {
                violations.push(Violation::invalid(format!("{POINTER}/value"), message));
            }
        }
        (None, Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::Templates;
    use serde_json::json;

    fn violations(value: serde_json::Value) -> Vec<(String, &'static str)> {
        let templates = Templates::builtin().unwrap();
        let input: ProviderInput = serde_json::from_value(value).unwrap();
        match input.accept(templates.find("openai").unwrap(), &[]) {
            Err(Error::Invalid(violations)) => {
                violations.into_iter().map(|violation| (violation.pointer, violation.code)).collect()
            }
            Ok(_) => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_come_from_the_template() {
        let templates = Templates::builtin().unwrap();
        let input: ProviderInput = serde_json::from_value(json!({ "template": "openai", "context": "/a" })).unwrap();
        let (input, warnings) = input.accept(templates.find("openai").unwrap(), &[]).unwrap();
        assert_eq!(input.upstream.url, "https://api.openai.com");
        assert_eq!(input.security.api_key.locations[0].name, "X-API-Key");
        assert_eq!(warnings, []);
    }

    #[test]
    fn what_nothing_enforces_is_refused_and_its_default_is_not() {
        let with = |member: &str, value: serde_json::Value| {
            let mut input = json!({ "template": "openai", "context": "/a" });
            input[member] = value;
            violations(input)
        };
        assert_eq!(with("policies", json!([{ "policy": "x" }])), [("/policies".to_owned(), "not_supported")]);
        assert_eq!(with("limits", json!([])), []);
        assert_eq!(with("models", json!({ "allow": ["gpt-4o"] })), []);
        assert_eq!(with("models", json!({ "force": "" })), [("/models/force".to_owned(), "invalid")]);
        assert_eq!(with("accessControl", json!({ "mode": "denyAll" })), []);
        let path = "/accessControl/exceptions/0/path".to_owned();
        assert_eq!(with("accessControl", json!({ "exceptions": [{ "path": "x" }] })), [(path, "invalid")]);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let found = violations(json!({
            "template": "openai", "context": "/a", "description": "\u{7}",
            "upstream": { "url": "http://api.openai.com", "credential": {} },
            "timeouts": { "connect": "1h" }, "maxBodyBytes": 0,
        }));
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/description", "/upstream/url", "/upstream/credential", "/timeouts/connect", "/maxBodyBytes"]
        );
    }
}
