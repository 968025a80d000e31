//! Contexts: the part of a URL that names an endpoint on a gateway, one to four segments. Two contexts overlap when one
//! is the other or lies within it; on a gateway none do, so a path matches one endpoint or none.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// `/openai-prod`, `/team/app/openai`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Context(String);

/// The text is no context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one to four segments such as `/openai-prod` or `/team/openai`: each up to 64 letters, digits, `-`, `_`, \
     `.` or `~`, no trailing slash"
)]
pub struct WrongContext;

impl Context {
    /// With its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a path could belong to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (short, long) = if self.0.len() <= other.0.len() { (&self.0, &other.0) } else { (&other.0, &self.0) };
        long.strip_prefix(short.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl TryFrom<String> for Context {
    type Error = WrongContext;

    fn try_from(text: String) -> Result<Self, WrongContext> {
        let Some(rest) = text.strip_prefix('/') else { return Err(WrongContext) };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        let legal = |segment: &str| {
            (1..=64).contains(&segment.len()) && segment != "." && segment != ".." && segment.bytes().all(allowed)
        };
        if rest.split('/').count() <= 4 && rest.split('/').all(legal) { Ok(Self(text)) } else { Err(WrongContext) }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl utoipa::PartialSchema for Context {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^(/[A-Za-z0-9_.~-]{1,64}){1,4}$"))
            .examples(["/openai-prod"])
            .into()
    }
}

impl utoipa::ToSchema for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> Context {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn one_to_four_plain_segments_are_legal() {
        for text in ["/openai-prod", "/a/b/c/d", "/v1.0/~x_y"] {
            assert!(Context::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in
            ["", "/", "openai", "/a/", "//a", "/a//b", "/a/b/c/d/e", "/a/../b", "/.", "/a b", "/a%2fb", "/é", "/a?b"]
        {
            assert!(Context::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn contexts_overlap_by_whole_segments_only() {
        assert!(context("/a").overlaps(&context("/a")));
        assert!(context("/a").overlaps(&context("/a/b")));
        assert!(context("/a/b").overlaps(&context("/a")));
        assert!(!context("/a").overlaps(&context("/ab")));
        assert!(!context("/a/b").overlaps(&context("/a/c")));
    }
}
