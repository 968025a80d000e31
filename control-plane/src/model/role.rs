//! Who may do what: the one table of roles and permissions. What is not listed is denied.
//!
//! A permission is what an operation asks for (`actor.require(Permission::KeysWrite)`); a role is what a member has.
//! Roles are not ordered: an auditor reads what an editor may not, and changes nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a member of an organization is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, other owners and the networks that upstreams may lie in included. There is always one.
    Owner,
    /// Everything but owners and upstream networks.
    Admin,
    /// Endpoints, secrets, keys, deployments.
    Editor,
    /// API keys alone; reads what they open.
    KeyManager,
    /// Reads the catalogue and usage.
    Viewer,
    /// Reads everything, the audit log and members included; changes nothing.
    Auditor,
}

impl Role {
    /// All, most powerful first.
    pub const ALL: [Self; 6] = [Self::Owner, Self::Admin, Self::Editor, Self::KeyManager, Self::Viewer, Self::Auditor];

    /// As in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::KeyManager => "key_manager",
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
        }
    }

    /// What this role may do.
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission as P;
        match self {
            Self::Owner => &P::ALL,
            Self::Admin => &[
                P::CatalogueRead,
                P::EndpointsWrite,
                P::SecretsRead,
                P::SecretsWrite,
                P::KeysRead,
                P::KeysWrite,
                P::DeploymentsWrite,
                P::GatewaysWrite,
                P::GatewayTokensRead,
                P::GatewayTokensWrite,
                P::UsageRead,
                P::MembersRead,
                P::MembersWrite,
                P::OwnTokens,
                P::AuditRead,
            ],
            Self::Editor => &[
                P::CatalogueRead,
                P::EndpointsWrite,
                P::SecretsRead,
                P::SecretsWrite,
                P::KeysRead,
                P::KeysWrite,
                P::DeploymentsWrite,
                P::UsageRead,
                P::OwnTokens,
            ],
            Self::KeyManager => &[P::CatalogueRead, P::KeysRead, P::KeysWrite, P::UsageRead, P::OwnTokens],
            Self::Viewer => &[P::CatalogueRead, P::KeysRead, P::UsageRead, P::OwnTokens],
            Self::Auditor => &[
                P::CatalogueRead,
                P::SecretsRead,
                P::KeysRead,
                P::GatewayTokensRead,
                P::UsageRead,
                P::MembersRead,
                P::OwnTokens,
                P::AuditRead,
            ],
        }
    }

    /// Whether this role may.
    pub fn may(self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The text names no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is none of owner, admin, editor, key_manager, viewer, auditor")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(UnknownRole)
    }
}

/// What an operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Permission {
    /// Templates, providers, proxies, gateways with their nodes, deployments, events: read.
    #[serde(rename = "catalogue:read")]
    CatalogueRead,
    /// Providers and proxies: create, change, remove.
    #[serde(rename = "endpoints:write")]
    EndpointsWrite,
    /// Names and versions of secrets: read. No permission reads a value.
    #[serde(rename = "secrets:read")]
    SecretsRead,
    /// Secrets: create, replace, remove.
    #[serde(rename = "secrets:write")]
    SecretsWrite,
    /// API keys: list.
    #[serde(rename = "keys:read")]
    KeysRead,
    /// API keys: create, change, rotate, disable, revoke.
    #[serde(rename = "keys:write")]
    KeysWrite,
    /// Deploy, undeploy, restore.
    #[serde(rename = "deployments:write")]
    DeploymentsWrite,
    /// Gateways: create, change, remove.
    #[serde(rename = "gateways:write")]
    GatewaysWrite,
    /// Private networks that a gateway's upstreams may lie in.
    #[serde(rename = "gateways:networks")]
    GatewayNetworks,
    /// Gateway tokens: list.
    #[serde(rename = "gateway-tokens:read")]
    GatewayTokensRead,
    /// Gateway tokens: create, revoke.
    #[serde(rename = "gateway-tokens:write")]
    GatewayTokensWrite,
    /// Usage and the request log: read.
    #[serde(rename = "usage:read")]
    UsageRead,
    /// Members: read.
    #[serde(rename = "members:read")]
    MembersRead,
    /// Members other than owners: create, change, remove.
    #[serde(rename = "members:write")]
    MembersWrite,
    /// Owners: create, change, remove.
    #[serde(rename = "owners:write")]
    OwnersWrite,
    /// One's own personal access tokens.
    #[serde(rename = "tokens:own")]
    OwnTokens,
    /// The audit log: read.
    #[serde(rename = "audit:read")]
    AuditRead,
}

impl Permission {
    /// All.
    pub const ALL: [Self; 17] = [
        Self::CatalogueRead,
        Self::EndpointsWrite,
        Self::SecretsRead,
        Self::SecretsWrite,
        Self::KeysRead,
        Self::KeysWrite,
        Self::DeploymentsWrite,
        Self::GatewaysWrite,
        Self::GatewayNetworks,
        Self::GatewayTokensRead,
        Self::GatewayTokensWrite,
        Self::UsageRead,
        Self::MembersRead,
        Self::MembersWrite,
        Self::OwnersWrite,
        Self::OwnTokens,
        Self::AuditRead,
    ];

    /// As in the API and in error messages, e.g. `keys:write`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CatalogueRead => "catalogue:read",
            Self::EndpointsWrite => "endpoints:write",
            Self::SecretsRead => "secrets:read",
            Self::SecretsWrite => "secrets:write",
            Self::KeysRead => "keys:read",
            Self::KeysWrite => "keys:write",
            Self::DeploymentsWrite => "deployments:write",
            Self::GatewaysWrite => "gateways:write",
            Self::GatewayNetworks => "gateways:networks",
            Self::GatewayTokensRead => "gateway-tokens:read",
            Self::GatewayTokensWrite => "gateway-tokens:write",
            Self::UsageRead => "usage:read",
            Self::MembersRead => "members:read",
            Self::MembersWrite => "members:write",
            Self::OwnersWrite => "owners:write",
            Self::OwnTokens => "tokens:own",
            Self::AuditRead => "audit:read",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_may_everything_and_nobody_else() {
        for permission in Permission::ALL {
            assert!(Role::Owner.may(permission), "{permission}");
        }
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Owner) {
            assert!(!role.may(Permission::OwnersWrite), "{role}");
            assert!(!role.may(Permission::GatewayNetworks), "{role}");
        }
    }

    #[test]
    fn viewers_and_auditors_change_nothing_but_their_own_tokens() {
        for role in [Role::Viewer, Role::Auditor] {
            for permission in role.permissions() {
                assert!(!permission.name().ends_with(":write"), "{role} {permission}");
            }
        }
    }

    #[test]
    fn names_are_the_same_in_text_and_in_json() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
            assert_eq!(role.name().parse(), Ok(role));
        }
        for permission in Permission::ALL {
            assert_eq!(serde_json::to_value(permission).unwrap(), permission.name());
        }
    }
}
