//! Who may call what: one line per operation. The layer around every route asks here before a handler or even a body is
//! looked at; an operation without a line is closed to everybody. Handlers ask again for what depends on the resource
//! (`actor.require`). A test walks the OpenAPI document and fails on any operation that has no line here.

use axum::http::Method;

use crate::model::role::Permission;
use Permission as P;
use Rule::{Needs, Open, SignedIn};

/// What an operation asks of whoever calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing.
    Open,
    /// A good token or session; the handler decides the rest.
    SignedIn,
    /// A role with this permission.
    Needs(Permission),
}

/// Method, path below `/api/v1` with `{}` for every variable, rule.
type Line = (Method, &'static str, Rule);

const LINES: &[Line] = &[
    (Method::GET, "/session", SignedIn),
    (Method::POST, "/session", Open),
    (Method::DELETE, "/session", SignedIn),
    (Method::GET, "/bootstrap", Open),
    (Method::POST, "/bootstrap", Open),
    (Method::GET, "/users", Needs(P::MembersRead)),
    (Method::POST, "/users", Needs(P::MembersWrite)),
    // Everybody reads and changes the own row.
    (Method::GET, "/users/{}", SignedIn),
    (Method::PUT, "/users/{}", SignedIn),
    (Method::DELETE, "/users/{}", Needs(P::MembersWrite)),
    (Method::GET, "/tokens", Needs(P::OwnTokens)),
    (Method::POST, "/tokens", Needs(P::OwnTokens)),
    (Method::DELETE, "/tokens/{}", Needs(P::OwnTokens)),
    (Method::GET, "/audit", Needs(P::AuditRead)),
    (Method::GET, "/templates", Needs(P::CatalogueRead)),
    (Method::GET, "/templates/{}", Needs(P::CatalogueRead)),
    (Method::GET, "/prices", Needs(P::CatalogueRead)),
    (Method::GET, "/prices/templates/{}", Needs(P::CatalogueRead)),
    (Method::PUT, "/prices/templates/{}", Needs(P::EndpointsWrite)),
    (Method::DELETE, "/prices/templates/{}", Needs(P::EndpointsWrite)),
    (Method::GET, "/prices/llm-providers/{}", Needs(P::CatalogueRead)),
    (Method::PUT, "/prices/llm-providers/{}", Needs(P::EndpointsWrite)),
    (Method::DELETE, "/prices/llm-providers/{}", Needs(P::EndpointsWrite)),
    (Method::GET, "/llm-providers", Needs(P::CatalogueRead)),
    (Method::POST, "/llm-providers", Needs(P::EndpointsWrite)),
    (Method::GET, "/llm-providers/{}", Needs(P::CatalogueRead)),
    (Method::PUT, "/llm-providers/{}", Needs(P::EndpointsWrite)),
    (Method::DELETE, "/llm-providers/{}", Needs(P::EndpointsWrite)),
    (Method::GET, "/llm-proxies", Needs(P::CatalogueRead)),
    (Method::POST, "/llm-proxies", Needs(P::EndpointsWrite)),
    (Method::GET, "/llm-proxies/{}", Needs(P::CatalogueRead)),
    (Method::PUT, "/llm-proxies/{}", Needs(P::EndpointsWrite)),
    (Method::DELETE, "/llm-proxies/{}", Needs(P::EndpointsWrite)),
    (Method::GET, "/api-keys", Needs(P::KeysRead)),
    (Method::POST, "/api-keys", Needs(P::KeysWrite)),
    (Method::GET, "/api-keys/{}", Needs(P::KeysRead)),
    (Method::PUT, "/api-keys/{}", Needs(P::KeysWrite)),
    (Method::DELETE, "/api-keys/{}", Needs(P::KeysWrite)),
    (Method::POST, "/api-keys/{}/rotate", Needs(P::KeysWrite)),
    (Method::POST, "/api-keys/{}/revoke", Needs(P::KeysWrite)),
    (Method::POST, "/api-keys/{}/disable", Needs(P::KeysWrite)),
    (Method::GET, "/secrets", Needs(P::SecretsRead)),
    (Method::POST, "/secrets", Needs(P::SecretsWrite)),
    (Method::GET, "/secrets/{}", Needs(P::SecretsRead)),
    (Method::PUT, "/secrets/{}", Needs(P::SecretsWrite)),
    (Method::DELETE, "/secrets/{}", Needs(P::SecretsWrite)),
    (Method::GET, "/gateways", Needs(P::CatalogueRead)),
    (Method::POST, "/gateways", Needs(P::GatewaysWrite)),
    (Method::GET, "/gateways/{}", Needs(P::CatalogueRead)),
    (Method::PUT, "/gateways/{}", Needs(P::GatewaysWrite)),
    (Method::DELETE, "/gateways/{}", Needs(P::GatewaysWrite)),
    (Method::GET, "/gateways/{}/tokens", Needs(P::GatewayTokensRead)),
    (Method::POST, "/gateways/{}/tokens", Needs(P::GatewayTokensWrite)),
    (Method::DELETE, "/gateways/{}/tokens/{}", Needs(P::GatewayTokensWrite)),
    (Method::GET, "/gateways/{}/nodes", Needs(P::CatalogueRead)),
    (Method::GET, "/gateways/{}/sync", Needs(P::CatalogueRead)),
    (Method::GET, "/deployments", Needs(P::CatalogueRead)),
    (Method::POST, "/deployments", Needs(P::DeploymentsWrite)),
    (Method::GET, "/deployments/{}", Needs(P::CatalogueRead)),
    (Method::POST, "/deployments/{}/undeploy", Needs(P::DeploymentsWrite)),
    (Method::POST, "/deployments/{}/restore", Needs(P::DeploymentsWrite)),
    (Method::GET, "/usage", Needs(P::UsageRead)),
    (Method::GET, "/usage/audit", Needs(P::UsageRead)),
    (Method::GET, "/requests", Needs(P::UsageRead)),
    (Method::GET, "/requests/{}", Needs(P::UsageRead)),
    (Method::GET, "/events", Needs(P::CatalogueRead)),
];

/// The rule of an operation by the pattern that its path matched, e.g. `/api/v1/users/{id}`. `None`: it has no line, and
/// stays closed.
pub fn rule(method: &Method, pattern: &str) -> Option<Rule> {
    let path = anonymous(pattern.strip_prefix("/api/v1")?);
    // A GET route answers HEAD as well.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    LINES.iter().find(|(of, line, _)| of == method && *line == path).map(|(_, _, rule)| *rule)
}

/// The pattern with the names of its variables taken out.
fn anonymous(pattern: &str) -> String {
    let mut path = String::with_capacity(pattern.len());
    let mut within = false;
    for character in pattern.chars() {
        match character {
            '{' => within = true,
            '}' => {
                within = false;
                path.push_str("{}");
            }
            _ if within => {}
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::role::Role;

    #[test]
    fn every_operation_of_the_document_has_a_rule() {
        let document = serde_json::to_value(crate::api::router::openapi()).unwrap();
        let mut without = Vec::new();
        for (pattern, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
                if ["GET", "POST", "PUT", "DELETE", "PATCH"].contains(&method.as_str())
                    && rule(&method, pattern).is_none()
                {
                    without.push(format!("{method} {pattern}"));
                }
            }
        }
        assert!(without.is_empty(), "add a line to api/access.rs for: {without:?}");
    }

    #[test]
    fn a_path_without_a_line_has_no_rule() {
        assert_eq!(rule(&Method::GET, "/api/v1/users/{id}"), Some(SignedIn));
        assert_eq!(rule(&Method::HEAD, "/api/v1/audit"), Some(Needs(P::AuditRead)));
        assert_eq!(rule(&Method::DELETE, "/api/v1/audit"), None);
        assert_eq!(rule(&Method::GET, "/api/v1/everything"), None);
        assert_eq!(rule(&Method::GET, "/healthz"), None);
    }

    #[test]
    fn reading_asks_for_reading_and_changing_for_changing() {
        for (method, path, rule) in LINES {
            let Needs(permission) = rule else { continue };
            let own = *permission == P::OwnTokens;
            assert!(own || permission.name().ends_with(":read") == method.is_safe(), "{method} {path} {permission}");
            assert!(Role::Owner.may(*permission));
        }
    }

    #[test]
    fn only_signing_in_and_the_first_owner_are_open() {
        let open: Vec<_> =
            LINES.iter().filter(|(.., rule)| *rule == Open).map(|(method, path, _)| (method.as_str(), *path)).collect();
        assert_eq!(open, [("POST", "/session"), ("GET", "/bootstrap"), ("POST", "/bootstrap")]);
    }
}
