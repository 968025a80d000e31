//! Which requests an endpoint lets through at all: what holds in general, and paths and methods that are an exception.
//! Rules name paths as people read them; a gateway compares them with what a vendor could read in a request's path.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Violation;

/// Which requests an endpoint lets through at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessControl {
    /// What holds for everything that no exception names.
    #[serde(default)]
    pub mode: AccessMode,
    /// What the mode does not hold for.
    #[serde(default)]
    pub exceptions: Vec<AccessException>,
}

/// What holds for requests in general.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum AccessMode {
    /// Everything passes but the exceptions.
    #[default]
    AllowAll,
    /// Nothing passes but the exceptions.
    DenyAll,
}

/// Paths and methods that are an exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessException {
    /// Of the vendor, without the query, e.g. `/v1/files/{file}` or `/v1beta/models/{model}:countTokens`. `{name}`
    /// stands for a segment or a part of one; `/*` at the end for the path before it and everything below.
    pub path: String,
    /// Empty: all. `GET` is `HEAD` as well.
    #[serde(default)]
    pub methods: Vec<AccessMethod>,
}

/// What a rule can name; `HEAD` follows `GET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessMethod {
    /// And `HEAD`; a WebSocket begins as one.
    Get,
    /// Most of what costs money.
    Post,
    /// Put.
    Put,
    /// Patch.
    Patch,
    /// Delete.
    Delete,
    /// Goes to the vendor like any other.
    Options,
}

/// Of one endpoint.
const MOST_EXCEPTIONS: usize = 200;
const MOST_PATH: usize = 512;

impl AccessControl {
    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        self.mode == AccessMode::AllowAll && self.exceptions.is_empty()
    }

    /// Paths that can be matched, each once.
    pub fn check(&self, violations: &mut Vec<Violation>) {
        if self.exceptions.len() > MOST_EXCEPTIONS {
            let message = format!("must be at most {MOST_EXCEPTIONS}");
            violations.push(Violation::invalid("/accessControl/exceptions", message));
            return;
        }
        for (index, exception) in self.exceptions.iter().enumerate() {
            let pointer = format!("/accessControl/exceptions/{index}");
            if let Err(message) = check_path(&exception.path) {
                violations.push(Violation::invalid(format!("{pointer}/path"), message));
            }
            let repeated = |at: &usize| exception.methods[..*at].contains(&exception.methods[*at]);
            if let Some(at) = (0..exception.methods.len()).find(repeated) {
                violations.push(Violation::invalid(format!("{pointer}/methods/{at}"), "is named twice"));
            }
            if self.exceptions[..index].contains(exception) {
                violations.push(Violation::invalid(pointer, "is the same as one before it"));
            }
        }
    }
}

/// Whether a rule's path is one that a gateway can match: what it refuses in requests is refused here.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let Some(rest) = path.strip_prefix('/') else { return Err("must begin with `/`") };
    if path.len() > MOST_PATH {
        return Err("must be at most 512 characters");
    }
    if path.contains(['%', '\\', '?', '#', ';']) || path.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err("must be a plain path: no `%`, `?`, `#`, `;`, backslash or space; name it as it reads decoded");
    }
    let rest = match rest.strip_suffix('*') {
        Some("") => return Ok(()),
        Some(before) => match before.strip_suffix('/') {
            Some(before) => before,
            None => return Err("may have `*` only as its last segment"),
        },
        None => rest,
    };
    for segment in rest.split('/') {
        let literal = match (segment.find('{'), segment.find('}')) {
            (None, None) => segment.to_owned(),
            (Some(open), Some(close)) if open + 1 < close => {
                let name = &segment[open + 1..close];
                if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter)) {
                    return Err("a `{name}` is letters, digits, `_`, `-` and `.`");
                }
                format!("{}x{}", &segment[..open], &segment[close + 1..])
            }
            _ => return Err("a segment has at most one `{name}`, with a name in it"),
        };
        match literal.as_str() {
            "" if rest.is_empty() => {}
            "" => return Err("must have no empty segments and no slash at its end"),
            "." | ".." => return Err("must have no `.` and `..` segments"),
            text if text.contains(['*', '{', '}']) => return Err("may have one `{name}` in a segment, and `*` last"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_can_be_matched_are_told_from_those_that_cannot() {
        for path in
            ["/", "/*", "/v1/files", "/v1/files/*", "/v1/files/{file}/content", "/v1beta/models/{m}:embed", "/a/{b}/*"]
        {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for path in [
            "",
            "v1",
            "*",
            "/v1//files",
            "/v1/",
            "/v1/f*",
            "/v1/*/x",
            "/v1/%66iles",
            "/v1/{}",
            "/v1/{a}{b}",
            "/v1/}{",
            "/v1/{a",
            "/v1/../x",
            "/v1?x=1",
            "/a b",
            "/a;b",
            "/a/{x y}",
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn every_exception_is_checked_where_it_stands() {
        let control: AccessControl = serde_json::from_value(serde_json::json!({
            "mode": "denyAll",
            "exceptions": [
                {"path": "/v1/files/*", "methods": ["POST"]}, {"path": "files"},
                {"path": "/v1/files/*", "methods": ["POST"]}, {"path": "/a", "methods": ["GET", "GET"]},
            ],
        }))
        .unwrap();
        let mut violations = Vec::new();
        control.check(&mut violations);
        let pointers: Vec<_> = violations.iter().map(|violation| violation.pointer.as_str()).collect();
        let exceptions = "/accessControl/exceptions";
        assert_eq!(
            pointers,
            [format!("{exceptions}/1/path"), format!("{exceptions}/2"), format!("{exceptions}/3/methods/1")]
        );
        assert!(serde_json::from_str::<AccessMethod>("\"HEAD\"").is_err(), "HEAD follows GET");
    }
}
