//! What handlers take from a request, parsed once at the edge: strict JSON bodies whose errors carry JSON pointers and
//! near names, `If-Match`, queries, and who is asking.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::error::{Error, Internal, Violation, nearest};
use crate::model::id::RequestId;

/// No body of this API needs more.
const BODY: usize = 1024 * 1024;

/// What a body may be read as.
pub trait Input: Sized {
    /// Bytes of a body at most.
    const LIMIT: usize = BODY;
    /// Members that a PUT may repeat as they were read.
    const READ_ONLY: &'static [&'static str] = &[];
    /// Members that are read and change by themselves: a PUT may repeat them, and what it says of them is not judged.
    const VOLATILE: &'static [&'static str] = &[];

    /// Reads the members that remain; by default strictly, as serde has it.
    fn read(members: Map<String, Value>) -> Result<Self, Error>;
}

/// A JSON body, read strictly: unknown members are refused.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body of a PUT, and the read-only members that it repeats.
#[derive(Debug)]
pub struct Replacement<T> {
    /// What the client may write.
    pub input: T,
    /// What it only repeated.
    pub repeated: Repeated,
}

/// Read-only members that a client sent back.
#[derive(Debug, Default)]
pub struct Repeated(Map<String, Value>);

impl Repeated {
    /// A read-only member may be repeated as it was read; anything else is a mistake that silence would hide.
    pub fn check(&self, current: &impl serde::Serialize) -> Result<(), Error> {
        let current = serde_json::to_value(current).map_err(|error| Error::Internal(Internal::new(error)))?;
        let violations: Vec<_> = self
            .0
            .iter()
            // Told with the answer to a write and kept nowhere, so there is nothing to compare them with.
            .filter(|(name, _)| *name != "warnings")
            .filter(|(name, value)| current.get(name.as_str()).unwrap_or(&Value::Null) != *value)
            .map(|(name, _)| {
                Violation::new(pointer_to(name), "read_only", "is set by the control plane; leave it out or as it was")
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
    }
}

impl<T: Input, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        T::read(members(request, T::LIMIT).await?).map(Self)
    }
}

impl<T: Input, S: Send + Sync> FromRequest<S> for Replacement<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Error> {
        let mut members = members(request, T::LIMIT).await?;
        members.retain(|name, _| !T::VOLATILE.contains(&name.as_str()));
        let repeated = T::READ_ONLY.iter().filter_map(|name| members.remove_entry(*name)).collect();
        Ok(Self { input: T::read(members)?, repeated: Repeated(repeated) })
    }
}

/// Reads a JSON object from the request's body.
async fn members(request: Request, limit: usize) -> Result<Map<String, Value>, Error> {
    let json = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !json {
        return Err(Error::UnsupportedMediaType);
    }
    let bytes = match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(Error::TooLarge { limit }),
        Err(_) => return Err(Error::Malformed("the body ended early".to_owned())),
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Violation::invalid("", "must be a JSON object").into()),
        Err(error) => Err(Error::Malformed(format!(
            "the body is not JSON: it goes wrong at line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// Deserializes with every failure told as a violation: where (a JSON pointer), what, and the nearest known name.
/// `also_known` are names that the caller took out before.
pub fn strict<T: DeserializeOwned>(members: Map<String, Value>, also_known: &[&str]) -> Result<T, Error> {
    serde_path_to_error::deserialize(Value::Object(members)).map_err(|error| {
        let path = pointer(error.path());
        violation(path, &error.into_inner().to_string(), also_known).into()
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&pointer_to(&index.to_string())),
            Segment::Map { key } => pointer.push_str(&pointer_to(key)),
            // A variant is no level of the JSON we speak.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// One level of a JSON pointer, escaped.
pub fn pointer_to(member: &str) -> String {
    format!("/{}", member.replace('~', "~0").replace('/', "~1"))
}

/// serde tells unknown and missing fields in words only; these words are stable, and a test here holds them.
fn violation(mut pointer: String, words: &str, also_known: &[&str]) -> Violation {
    let mut quoted = words.split('`').skip(1).step_by(2);
    if words.starts_with("unknown field") {
        let written = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let at_top = pointer.matches('/').count() <= 1;
        let last = pointer_to(written);
        if !pointer.ends_with(&last) {
            pointer.push_str(&last);
        }
        let known = known.iter().copied().chain(also_known.iter().copied().filter(|_| at_top));
        return Violation::new(pointer, "unknown_field", "there is no such field").suggest(written, known);
    }
    if words.starts_with("missing field") {
        let name = quoted.next().unwrap_or_default();
        return Violation::new(pointer + &pointer_to(name), "required", "is required");
    }
    if words.starts_with("unknown variant") {
        let written = quoted.next().unwrap_or_default().to_owned();
        let known: Vec<&str> = quoted.collect();
        let message = format!("must be one of: {}", known.join(", "));
        let suggestion = nearest(&written, known.iter().copied()).map(str::to_owned);
        return Violation { pointer, code: "invalid", message, suggestion };
    }
    Violation::invalid(pointer, words)
}

/// Which revision a change is based on, from `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever is there.
    Any,
    /// Exactly this one.
    Revision(i64),
}

impl IfMatch {
    /// Refuses a change that is based on another revision.
    pub fn check(self, current: i64) -> Result<(), Error> {
        match self {
            Self::Revision(revision) if revision != current => Err(Error::RevisionMismatch { current }),
            Self::Any | Self::Revision(_) => Ok(()),
        }
    }

    fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let mut values = headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Err(Error::RevisionRequired) };
        if values.next().is_some() {
            return Err(Error::Malformed("If-Match is there twice".to_owned()));
        }
        match value.to_str().map(str::trim) {
            Ok("*") => Ok(Self::Any),
            // A tag that we never gave (a weak one, another server's) matches nothing.
            Ok(tag) => {
                let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                Ok(Self::Revision(revision.and_then(|revision| revision.parse().ok()).unwrap_or(-1)))
            }
            Err(_) => Err(Error::Malformed("If-Match is not text".to_owned())),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Self::read(&parts.headers)
    }
}

/// The query, read strictly.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| Error::Malformed(rejection.body_text()))
    }
}

/// The last variable segments of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(Error::Malformed(rejection.body_text())),
        }
    }
}

/// The id of this request, which the outermost layer gave it.
pub fn request_id(parts: &Parts) -> Option<RequestId> {
    parts.extensions.get::<RequestId>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        context: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        first_byte: Option<u32>,
        mode: Option<Mode>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Mode {
        AllowAll,
        DenyAll,
    }

    fn read(value: Value) -> Violation {
        let Value::Object(members) = value else { panic!("an object") };
        match strict::<Outer>(members, &["name"]) {
            Err(Error::Invalid(mut violations)) => violations.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_field_is_told_with_its_place_and_the_nearest_name() {
        let top = read(json!({ "context": "/a", "contxt": 1 }));
        assert_eq!((top.pointer.as_str(), top.code), ("/contxt", "unknown_field"));
        assert_eq!(top.suggestion.as_deref(), Some("context"));
        let taken_out = read(json!({ "context": "/a", "nme": 1 }));
        assert_eq!(taken_out.suggestion.as_deref(), Some("name"));
        let deep = read(json!({ "context": "/a", "inner": [{}, { "firstbyte": 1 }] }));
        assert_eq!((deep.pointer.as_str(), deep.code), ("/inner/1/firstbyte", "unknown_field"));
        assert_eq!(deep.suggestion.as_deref(), Some("firstByte"));
    }

    #[test]
    fn a_missing_field_a_wrong_type_and_a_wrong_variant_have_their_pointers() {
        let missing = read(json!({}));
        assert_eq!((missing.pointer.as_str(), missing.code), ("/context", "required"));
        let wrong = read(json!({ "context": 7 }));
        assert_eq!((wrong.pointer.as_str(), wrong.code), ("/context", "invalid"));
        let variant = read(json!({ "context": "/a", "inner": [{ "mode": "denyall" }] }));
        assert_eq!((variant.pointer.as_str(), variant.code), ("/inner/0/mode", "invalid"));
        assert_eq!(variant.suggestion.as_deref(), Some("denyAll"));
    }

    #[test]
    fn if_match_reads_strong_tags_and_the_star_only() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, header::HeaderValue::from_static(value));
            IfMatch::read(&headers).unwrap()
        };
        assert_eq!(read("\"17\""), IfMatch::Revision(17));
        assert_eq!(read("*"), IfMatch::Any);
        assert!(read("W/\"17\"").check(17).is_err());
        assert!(read("\"17\"").check(18).is_err());
        assert!(matches!(IfMatch::read(&HeaderMap::new()), Err(Error::RevisionRequired)));
    }
}
