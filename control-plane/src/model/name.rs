//! Names of catalogue resources, and the two ways to point at one: by id or by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use uuid::Uuid;

/// `[a-z][a-z0-9-]{1,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// The text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 2 to 63 lower case letters, digits and hyphens, and start with a letter")]
pub struct WrongName;

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that the store already holds.
    pub(crate) const fn stored(text: String) -> Self {
        Self(text)
    }
}

impl TryFrom<String> for Name {
    type Error = WrongName;

    fn try_from(text: String) -> Result<Self, WrongName> {
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if letters && starts && (2..=63).contains(&text.len()) { Ok(Self(text)) } else { Err(WrongName) }
    }
}

impl FromStr for Name {
    type Err = WrongName;

    fn from_str(text: &str) -> Result<Self, WrongName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl utoipa::PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z][a-z0-9-]{1,62}$")).into()
    }
}

impl utoipa::ToSchema for Name {}

/// A resource, as a client points at it. No name holds an underscore and every id does, so the two never meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// By its id; any prefix that the noun may have.
    Id(Uuid),
    /// By its name, or by something that is neither and will not be found.
    Name(String),
}

impl Key {
    /// Reads an id with one of these prefixes, or a name.
    pub fn read(text: &str, prefixes: &[&'static str]) -> Self {
        let id = prefixes.iter().find_map(|prefix| proto::id::decode(prefix, text));
        id.map_or_else(|| Self::Name(text.to_owned()), Self::Id)
    }

    /// For a statement that asks `id = $1 OR name = $2`.
    pub fn parts(&self) -> (Option<Uuid>, Option<&str>) {
        match self {
            Self::Id(id) => (Some(*id), None),
            // No name holds it, and Postgres takes no text with it.
            Self::Name(name) if name.contains('\0') => (None, None),
            Self::Name(name) => (None, Some(name)),
        }
    }
}

/// A reference to a schema by its name, for schemas that are put together by hand.
pub(crate) fn reference(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::ProviderId;

    #[test]
    fn names_are_plain_and_never_look_like_ids() {
        for text in ["openai-prod", "a1", &"a".repeat(63)] {
            assert!(text.parse::<Name>().is_ok(), "{text}");
        }
        for text in ["", "a", "1a", "-a", "Open", "a_b", "a.b", "a/b", &"a".repeat(64)] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        let id = ProviderId::new();
        assert!(id.to_string().parse::<Name>().is_err());
        assert_eq!(Key::read(&id.to_string(), &["prv"]), Key::Id(id.0));
        assert_eq!(Key::read("openai-prod", &["prv"]), Key::Name("openai-prod".to_owned()));
    }
}
