//! Which models may be asked for and what is sent in their place, compiled. Names are compared byte for byte.

use std::collections::BTreeMap;
use std::fmt;

/// The rules of a key, an endpoint or a provider.
#[derive(Debug, Default)]
pub struct ModelRules {
    /// Empty: all.
    pub allow: Box<[Allowed]>,
    /// Name asked for to name sent.
    pub aliases: Aliases,
    /// Sent whatever is asked for.
    pub force: Option<Box<str>>,
}

/// Name asked for to name sent.
pub type Aliases = BTreeMap<Box<str>, Box<str>>;

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// One name.
    Exactly(Box<str>),
    /// All that begin so.
    Beginning(Box<str>),
}

impl fmt::Display for Allowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(text) => formatter.write_str(text),
            Self::Beginning(text) => write!(formatter, "{text}*"),
        }
    }
}

impl Allowed {
    fn means(&self, name: &str) -> bool {
        match self {
            Self::Exactly(text) => **text == *name,
            Self::Beginning(text) => name.starts_with(&**text),
        }
    }
}

impl ModelRules {
    /// What is sent for this name; `None`: it is not allowed. A name that is an alias is allowed by that alone.
    pub fn apply<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        if let Some(force) = &self.force {
            return Some(force);
        }
        if let Some(name) = self.aliases.get(asked) {
            return Some(name);
        }
        let allowed = self.allow.is_empty() || self.allow.iter().any(|allowed| allowed.means(asked));
        allowed.then_some(asked)
    }

    /// Whether there are names that it does not let pass as they are.
    pub fn restricts(&self) -> bool {
        self.force.is_some() || !self.allow.is_empty()
    }
}

pub(super) mod wire {
    use super::{Aliases, Allowed, ModelRules};

    impl From<proto::config::ModelRules> for ModelRules {
        fn from(rules: proto::config::ModelRules) -> Self {
            let proto::config::ModelRules { allow, aliases, force } = rules;
            let allowed = |text: String| match text.strip_suffix('*') {
                Some(beginning) => Allowed::Beginning(beginning.into()),
                None => Allowed::Exactly(text.into()),
            };
            Self {
                allow: allow.into_iter().map(allowed).collect(),
                aliases: self::aliases(aliases),
                force: (!force.is_empty()).then(|| force.into()),
            }
        }
    }

    pub(in crate::runtime) fn aliases(aliases: Vec<proto::config::ModelAlias>) -> Aliases {
        aliases.into_iter().map(|proto::config::ModelAlias { alias, model }| (alias.into(), model.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::config::{ModelAlias, ModelRules as Wire};

    use super::*;

    #[test]
    fn names_are_allowed_exactly_by_their_beginning_or_by_being_an_alias() {
        let alias = ModelAlias { alias: "fast".to_owned(), model: "gpt-4o-mini".to_owned() };
        let allow = vec!["gpt-4o*".to_owned(), "o3".to_owned()];
        let rules = ModelRules::from(Wire { allow, aliases: vec![alias.clone()], force: String::new() });
        let cases = [
            ("gpt-4o", Some("gpt-4o")),
            ("gpt-4o-mini", Some("gpt-4o-mini")),
            ("o3", Some("o3")),
            ("fast", Some("gpt-4o-mini")),
            ("o3-mini", None),
            ("GPT-4o", None),
            ("gpt-4", None),
            ("", None),
        ];
        for (asked, sent) in cases {
            assert_eq!(rules.apply(asked), sent, "{asked}");
        }
        let rules = ModelRules::from(Wire { allow: vec![], aliases: vec![alias], force: String::new() });
        assert_eq!((rules.apply("x"), rules.restricts()), (Some("x"), false));
        let rules = ModelRules::from(Wire { allow: vec![], aliases: vec![], force: "one".to_owned() });
        assert_eq!((rules.apply("x"), rules.restricts()), (Some("one"), true));
    }
}
