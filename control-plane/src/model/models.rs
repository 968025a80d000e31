//! Which models may be asked for, and under which names. The rules of a key run first, then those of the endpoint, then
//! of the proxy's target, then of the provider, each on the name that the one before it gave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Violation;

/// Which models may be asked for, under which names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Models {
    /// Exact names, or beginnings that end in `*`: `gpt-4o`, `gpt-4o*`. Empty: all. A name that is an alias here is
    /// allowed by that alone.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Name asked for to name sent.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// The model that is sent whatever is asked for; stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<String>,
}

/// In one list.
const MOST: usize = 500;
const MOST_NAME: usize = 256;

impl Models {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Names that a request could carry, each once.
    pub fn check(&self, violations: &mut Vec<Violation>) {
        if self.allow.len() > MOST {
            violations.push(Violation::invalid("/models/allow", format!("must be at most {MOST}")));
        }
        for (index, pattern) in self.allow.iter().enumerate() {
            let pointer = format!("/models/allow/{index}");
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            // A star alone allows all: that is what leaving the list out says.
            if let Err(message) = check_name(name) {
                violations.push(Violation::invalid(pointer, message));
            } else if self.allow[..index].contains(pattern) {
                violations.push(Violation::invalid(pointer, "is named twice"));
            }
        }
        check_aliases(&self.aliases, "/models/aliases", violations);
        if let Some(force) = &self.force {
            if let Err(message) = check_name(force) {
                violations.push(Violation::invalid("/models/force", message));
            } else if !self.allow.is_empty() || !self.aliases.is_empty() {
                let message = "leaves nothing to allow and no name to stand for another: give it alone";
                violations.push(Violation::invalid("/models/force", message));
            }
        }
    }
}

/// Names that a request could carry, on both sides.
pub fn check_aliases(aliases: &BTreeMap<String, String>, pointer: &str, violations: &mut Vec<Violation>) {
    if aliases.len() > MOST {
        violations.push(Violation::invalid(pointer, format!("must be at most {MOST}")));
    }
    for (alias, name) in aliases {
        if let Err(message) = check_name(alias).and_then(|()| check_name(name)) {
            let member = alias.replace('~', "~0").replace('/', "~1");
            violations.push(Violation::invalid(format!("{pointer}/{member}"), message));
        }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MOST_NAME {
        return Err("a model's name has 1 to 256 characters");
    }
    if name.contains('*') || name.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err("a model's name has no spaces, and `*` only at the end of what is allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(models: serde_json::Value) -> Vec<String> {
        let models: Models = serde_json::from_value(models).unwrap();
        let mut violations = Vec::new();
        models.check(&mut violations);
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn names_beginnings_and_aliases_are_checked_where_they_stand() {
        assert_eq!(pointers(json!({"allow": ["gpt-4o", "gpt-4o*"], "aliases": {"fast": "gpt-4o-mini"}})), [""; 0]);
        assert_eq!(pointers(json!({"force": "gpt-4o"})), [""; 0]);
        let wrong =
            json!({"allow": ["", "a*b", "*", "x", "x"], "aliases": {"a/b": "", "two words": "y"}, "force": "f"});
        assert_eq!(
            pointers(wrong),
            [
                "/models/allow/0",
                "/models/allow/1",
                "/models/allow/2",
                "/models/allow/4",
                "/models/aliases/a~1b",
                "/models/aliases/two words",
                "/models/force",
            ]
        );
    }
}
