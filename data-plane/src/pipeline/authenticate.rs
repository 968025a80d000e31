//! Step 3: whose key it is. Looks where the endpoint says, in that order; the first place that carries a value decides.
//! What is wrong with a key is never told.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;

use super::receive::Call;
use super::route::Routed;
use super::{handshake, query};
use crate::error::Refusal;
use crate::runtime::api_key::{self, ApiKey};
use crate::runtime::key_location::KeyLocation;

/// Who calls: made by a valid key alone.
pub(super) struct Caller {
    pub(super) key: Arc<ApiKey>,
}

/// Finds out.
pub(super) fn authenticate(call: &mut Call, routed: &Routed) -> Result<Caller, Refusal> {
    let endpoint = &routed.endpoint;
    let presented = presented(&call.head.headers, call.head.uri.query(), &endpoint.key_locations);
    let presented = presented.and_then(|presented| match presented {
        None if call.websocket.is_some() => {
            Ok(handshake::key_in_protocol(&call.head.headers, endpoint)?.map(Cow::from))
        }
        presented => Ok(presented),
    });
    let key = presented.and_then(|presented| {
        let digest = presented.as_deref().and_then(api_key::digest).ok_or(Refusal::Unauthenticated)?;
        let credential = routed.runtime.credential(digest).ok_or(Refusal::Unauthenticated)?;
        let opens = credential.is_live(call.now_ms) && credential.key.is_used_from(call.busy.peer());
        if opens { Ok(Arc::clone(&credential.key)) } else { Err(Refusal::Unauthenticated) }
    });
    match key {
        Ok(key) => {
            call.account.authenticated(&key);
            Ok(Caller { key })
        }
        // It is closed to everyone, whoever they are.
        Err(_) if endpoint.disabled => Err(Refusal::EndpointDisabled),
        Err(refusal) => Err(refusal),
    }
}

/// The value of the first place that has one. Two values in one place are refused wherever it stands in the list.
fn presented<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    locations: &[KeyLocation],
) -> Result<Option<Cow<'a, str>>, Refusal> {
    let mut found = None;
    for location in locations {
        let (value, prefix) = match location {
            KeyLocation::Header { name, prefix } => {
                let mut values = headers.get_all(name).iter();
                let value = values.next();
                if values.next().is_some() {
                    return Err(Refusal::AmbiguousKey);
                }
                (value.map(|value| Cow::Borrowed(value.to_str().unwrap_or("\u{fffd}"))), prefix)
            }
            KeyLocation::Query { name, prefix } => {
                let mut values = query.into_iter().flat_map(|query| self::query::values(query, name));
                let value = values.next().map(|value| Cow::Owned(value.into_owned()));
                if values.next().is_some() {
                    return Err(Refusal::AmbiguousKey);
                }
                (value, prefix)
            }
        };
        if found.is_none() {
            found = value.and_then(|value| strip(value, prefix)).filter(|value| !value.is_empty());
        }
    }
    Ok(found)
}

/// Behind the prefix, compared without case; `None`: it does not begin so.
fn strip<'a>(value: Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    let rest = |text: &str| -> Option<usize> {
        let head = text.get(..prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(prefix.len())
    };
    let from = rest(&value)?;
    Some(match value {
        Cow::Borrowed(text) => Cow::Borrowed(text[from..].trim_matches(' ')),
        Cow::Owned(text) => Cow::Owned(text[from..].trim_matches(' ').to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn locations() -> Vec<KeyLocation> {
        let header = |name: &'static str, prefix: &str| KeyLocation::Header {
            name: HeaderName::from_static(name),
            prefix: prefix.into(),
        };
        vec![
            header("x-api-key", ""),
            header("authorization", "Bearer "),
            KeyLocation::Query { name: "key".into(), prefix: "".into() },
        ]
    }

    fn find(headers: &[(&'static str, &'static str)], query: Option<&str>) -> Result<Option<String>, Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        presented(&map, query, &locations()).map(|found| found.map(Cow::into_owned))
    }

    #[test]
    fn the_first_place_with_a_value_decides() {
        let cases = [
            (vec![("x-api-key", "a"), ("authorization", "Bearer b")], None, Some("a")),
            (vec![("x-api-key", ""), ("authorization", "bearer  b ")], None, Some("b")),
            (vec![("authorization", "Basic b")], Some("key=c"), Some("c")),
            (vec![("authorization", "Bearer")], None, None),
            (vec![], Some("a=1&key=c%2Dd"), Some("c-d")),
            (vec![], None, None),
        ];
        for (headers, query, found) in cases {
            assert_eq!(find(&headers, query).unwrap().as_deref(), found, "{headers:?} {query:?}");
        }
    }

    #[test]
    fn two_values_in_one_place_are_refused() {
        let twice = Err(Refusal::AmbiguousKey);
        assert_eq!(find(&[("x-api-key", "a"), ("x-api-key", "a")], None), twice);
        assert_eq!(find(&[("x-api-key", "a"), ("authorization", "Bearer b"), ("authorization", "c")], None), twice);
        assert_eq!(find(&[("x-api-key", "a")], Some("key=1&k%65y=2")), twice);
    }
}

#[cfg(test)]
mod properties {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const HEADERS: [&str; 3] = ["x-api-key", "authorization", "x-goog-api-key"];
    const PARAMETERS: [&str; 2] = ["key", "api key"];
    const PREFIXES: [&str; 3] = ["", "Bearer ", "Key="];

    /// Which place, and the prefix there.
    fn location() -> impl Strategy<Value = (usize, &'static str)> {
        (0..HEADERS.len() + PARAMETERS.len(), prop::sample::select(PREFIXES.to_vec()))
    }

    fn value() -> impl Strategy<Value = String> {
        let bit =
            prop::sample::select(vec!["Bearer ", "bEARER ", "Bearer", "key=", " ", "lgk_1", "x", "\u{e9}", "Basic "]);
        prop::collection::vec(bit, 0..4).prop_map(|bits| bits.concat())
    }

    /// The rule in words: two values in one place are too many; else the first place with a value decides.
    fn by_the_book(
        locations: &[(usize, &str)],
        fields: &[(usize, String)],
        parameters: &[(usize, String)],
    ) -> Result<Option<String>, Refusal> {
        let mut found = Vec::new();
        for (place, prefix) in locations {
            let there: Vec<String> = match place.checked_sub(HEADERS.len()) {
                None => fields.iter().filter(|(at, _)| at == place).map(|(_, value)| value.trim().to_owned()).collect(),
                Some(place) => {
                    parameters.iter().filter(|(at, _)| *at == place).map(|(_, value)| value.clone()).collect()
                }
            };
            if there.len() > 1 {
                return Err(Refusal::AmbiguousKey);
            }
            let value = there.first().map(|value| {
                // A field that is no plain text is a value all the same, and opens nothing.
                if *place < HEADERS.len() && !value.is_ascii() { "\u{fffd}".to_owned() } else { value.clone() }
            });
            let begins = |value: &String| value.to_ascii_lowercase().starts_with(&prefix.to_ascii_lowercase());
            let rest = value.filter(begins).map(|value| value[prefix.len()..].trim_matches(' ').to_owned());
            found.extend(rest.filter(|rest| !rest.is_empty()));
        }
        Ok(found.first().cloned())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_key_is_the_one_that_the_rule_finds(
            locations in prop::collection::vec(location(), 1..5),
            fields in prop::collection::vec((0..HEADERS.len(), value()), 0..4),
            parameters in prop::collection::vec((0..PARAMETERS.len(), value()), 0..3),
        ) {
            let mut headers = HeaderMap::new();
            for (place, value) in &fields {
                headers.append(HEADERS[*place], HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
            }
            let query = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(parameters.iter().map(|(place, value)| (PARAMETERS[*place], value)))
                .finish();
            let list: Vec<KeyLocation> = locations.iter().map(|(place, prefix)| match place.checked_sub(HEADERS.len()) {
                None => KeyLocation::Header { name: HeaderName::from_static(HEADERS[*place]), prefix: (*prefix).into() },
                Some(place) => KeyLocation::Query { name: PARAMETERS[place].into(), prefix: (*prefix).into() },
            }).collect();
            let found = presented(&headers, Some(&query), &list).map(|found| found.map(Cow::into_owned));
            prop_assert_eq!(found, by_the_book(&locations, &fields, &parameters));
        }
    }
}
