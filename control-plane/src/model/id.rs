//! Typed ids: a UUIDv7 within, `prv_01h45y...` in text. A wrong prefix does not parse, so an id of one noun can never
//! be taken for another's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text is no id of this noun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no id that starts with `{0}_`")]
pub struct WrongId(pub &'static str);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The text's first part, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new one; later ones sort after earlier ones.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&proto::id::encode($prefix, self.0))
            }
        }

        impl FromStr for $name {
            type Err = WrongId;

            fn from_str(text: &str) -> Result<Self, WrongId> {
                proto::id::decode($prefix, text).map(Self).ok_or(WrongId($prefix))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )*};
}

ids! {
    /// An organization.
    OrganizationId = "org";
    /// A member of an organization, who signs in.
    UserId = "usr";
    /// A personal access token.
    TokenId = "tok";
    /// A session of the console.
    SessionId = "ses";
    /// A template.
    TemplateId = "tpl";
    /// An LLM provider.
    ProviderId = "prv";
    /// An LLM proxy.
    ProxyId = "prx";
    /// An API key.
    ApiKeyId = "key";
    /// A secret.
    SecretId = "sec";
    /// A gateway.
    GatewayId = "gw";
    /// A gateway token.
    GatewayTokenId = "gwt";
    /// A node of a gateway.
    NodeId = "node";
    /// A deployment.
    DeploymentId = "dep";
    /// A request, to us or through a gateway.
    RequestId = "req";
    /// An audit entry.
    AuditId = "aud";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_noun_does_not_parse() {
        let id = ProviderId::new();
        assert_eq!(id.to_string().parse::<ProviderId>(), Ok(id));
        assert_eq!(id.to_string().parse::<ProxyId>(), Err(WrongId("prx")));
    }
}
