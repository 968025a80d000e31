//! Where a gateway key may travel in a request: an ordered list per endpoint, the first that carries a value decides.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Violation;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyLocation {
    /// A header or a query parameter.
    pub r#in: KeyPlace,
    /// Of the header (without regard to case) or of the query parameter (as written).
    pub name: String,
    /// What must precede the key there, e.g. `Bearer `; compared without regard to case.
    #[serde(default)]
    pub prefix: String,
}

/// Kinds of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyPlace {
    /// A request header.
    Header,
    /// A query parameter.
    Query,
}

/// More places than any client needs.
const MOST: usize = 8;

/// Headers that mean something else to every server on the way.
const NEVER: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

impl KeyLocation {
    /// A header, nothing before the key.
    pub fn header(name: &str) -> Self {
        Self { r#in: KeyPlace::Header, name: name.to_owned(), prefix: String::new() }
    }

    fn same_place(&self, other: &Self) -> bool {
        match (self.r#in, other.r#in) {
            (KeyPlace::Header, KeyPlace::Header) => self.name.eq_ignore_ascii_case(&other.name),
            (KeyPlace::Query, KeyPlace::Query) => self.name == other.name,
            (KeyPlace::Header, KeyPlace::Query) | (KeyPlace::Query, KeyPlace::Header) => false,
        }
    }
}

/// Checks a list that is not empty; `pointer` is the list's.
pub fn check(locations: &[KeyLocation], pointer: &str, violations: &mut Vec<Violation>) {
    if locations.len() > MOST {
        violations.push(Violation::invalid(pointer, format!("must be at most {MOST} locations")));
    }
    for (index, location) in locations.iter().enumerate() {
        let at = |member: &str| format!("{pointer}/{index}/{member}");
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if location.name.is_empty() || location.name.len() > 64 || !location.name.bytes().all(token) {
            violations.push(Violation::invalid(at("name"), "must be the name of a header or query parameter"));
        } else if location.r#in == KeyPlace::Header && NEVER.contains(&location.name.to_ascii_lowercase().as_str()) {
            violations.push(Violation::invalid(at("name"), "is a header that means something else"));
        } else if locations[..index].iter().any(|earlier| earlier.same_place(location)) {
            violations.push(Violation::invalid(at("name"), "is in the list already"));
        }
        let visible = |byte: u8| (b' '..=b'~').contains(&byte);
        if location.prefix.len() > 32 || !location.prefix.bytes().all(visible) {
            violations.push(Violation::invalid(at("prefix"), "must be at most 32 visible ASCII characters"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_twice_or_in_a_header_of_other_meaning_is_refused() {
        let mut violations = Vec::new();
        let list = [KeyLocation::header("X-API-Key"), KeyLocation::header("x-api-key"), KeyLocation::header("Host")];
        check(&list, "/security/apiKey/locations", &mut violations);
        let pointers: Vec<_> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(pointers, ["/security/apiKey/locations/1/name", "/security/apiKey/locations/2/name"]);
    }
}
