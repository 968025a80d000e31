//! Every way an operation of the control plane can fail, without a word about HTTP: `api::problem` gives each its
//! status.
//!
//! What a caller may read is in the variants' fields. What only an operator may read is an [`Internal`], which has no
//! `Display` and no `Serialize`: it cannot end up in an answer by accident.

use std::time::Duration;

/// One failed operation.
#[derive(Debug)]
pub enum Error {
    /// The input was read and its meaning is wrong. Never empty.
    Invalid(Vec<Violation>),
    /// The input could not be read at all, e.g. it is no JSON; says why.
    Malformed(String),
    /// Nobody is signed in, or the token is not known.
    Unauthenticated,
    /// The actor may not do this; names the permission that is missing.
    Forbidden(String),
    /// No such resource in the actor's organization.
    NotFound {
        /// The noun, e.g. `llm provider`.
        noun: &'static str,
        /// The name or id that was asked for.
        key: String,
    },
    /// Something else is in the way.
    Conflict(Conflict, String),
    /// The resource was changed since it was read.
    RevisionMismatch {
        /// The resource's revision now.
        current: i64,
    },
    /// A change must say which revision it is based on.
    RevisionRequired,
    /// The body is larger than this many bytes.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// Too often; try again after this time.
    Throttled {
        /// At least one second.
        retry_after: Duration,
    },
    /// Something we need is away: the store, or a worker.
    Unavailable(Internal),
    /// A defect.
    Internal(Internal),
}

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// In general.
    Conflict,
    /// Another resource has this name.
    NameTaken,
    /// Another endpoint's context is the same, or one lies within the other.
    ContextTaken,
    /// Others still depend on it.
    InUse,
    /// It depends on a provider that is not deployed there.
    NotDeployed,
}

/// One thing wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer (RFC 6901) into the body; empty: the whole body.
    pub pointer: String,
    /// Closed set: `invalid`, `required`, `unknown_field`, `not_supported`, `read_only`, `not_found`.
    pub code: &'static str,
    /// For people; lower case, says what is allowed.
    pub message: String,
    /// The nearest thing that would have been right.
    pub suggestion: Option<String>,
}

impl Violation {
    /// Without a suggestion.
    pub fn new(pointer: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into(), suggestion: None }
    }

    /// The value is not one of those allowed.
    pub fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(pointer, "invalid", message)
    }

    /// The field is known and nothing enforces it yet.
    pub fn not_supported(pointer: impl Into<String>) -> Self {
        Self::new(pointer, "not_supported", "nothing enforces this yet, so it is not accepted")
    }

    /// With the nearest of `known`, if one is near.
    #[must_use]
    pub fn suggest<'a>(mut self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.suggestion = nearest(written, known).map(str::to_owned);
        self
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

/// The nearest of `known` to what was written, if it is near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|name| (likeness(&written, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

/// 1 for the same. In a short name one slip of the fingers (`ulr` for `url`) is all it takes to look unlike.
fn likeness(written: &str, name: &str) -> f64 {
    let alike = strsim::jaro_winkler(written, name);
    if name.len() > 2 && strsim::osa_distance(written, name) == 1 { alike.max(0.9) } else { alike }
}

/// The part of an error that is for the log. No `Display`; `Debug` is the chain.
pub struct Internal(Box<dyn std::error::Error + Send + Sync>);

impl Internal {
    /// Keeps the error and its sources.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    /// A defect that has no error of its own.
    pub fn message(message: impl Into<String>) -> Self {
        Self(message.into().into())
    }
}

impl std::fmt::Debug for Internal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("contxt", ["name", "context", "upstream"]), Some("context"));
        assert_eq!(nearest("displayname", ["name", "displayName"]), Some("displayName"));
        assert_eq!(nearest("ulr", ["credential", "caPem", "url"]), Some("url"));
        assert_eq!(nearest("zzz", ["name", "context"]), None);
    }
}
