//! One rule about how much may be used, compiled: which requests it speaks of and what it counts of them.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::lease::Identity;
use super::meter::{Meter, Window};
use super::meters::{Meters, Place};

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As the configuration calls it.
    pub name: Box<str>,
    /// Whose it is.
    pub owner: Owner,
    /// What is counted.
    pub metric: Metric,
    /// At most so much; of cost in nano-dollars.
    pub limit: u64,
    /// In which time.
    pub window: Window,
    /// Paths it speaks of; empty: all.
    pub resources: Box<[Pattern]>,
    /// Counts and never refuses.
    pub shadow: bool,
    /// What has no price passes a rule about cost, uncounted.
    pub unpriced_allowed: bool,
    /// Tokens of output to reserve for a request that does not bound them.
    pub output_estimate: u64,
    /// Models it speaks of; empty: all.
    pub models: Box<[Model]>,
    /// What is reserved is the most that a request can come to; what cannot be bounded is refused.
    pub strict: bool,
    /// Where it is counted, once somebody has looked.
    pub(crate) meter: OnceLock<Arc<Meter>>,
}

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The key's, over all endpoints.
    ApiKey(Uuid),
    /// The provider's or proxy's that was called.
    Endpoint(Uuid),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Requests that were sent.
    Requests,
    /// Tokens of input.
    InputTokens,
    /// Tokens of output.
    OutputTokens,
    /// Both.
    TotalTokens,
    /// Nano-dollars.
    Cost,
    /// Requests in flight.
    ConcurrentRequests,
}

impl Metric {
    /// Closed label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "inputTokens",
            Self::OutputTokens => "outputTokens",
            Self::TotalTokens => "totalTokens",
            Self::Cost => "cost",
            Self::ConcurrentRequests => "concurrentRequests",
        }
    }
}

/// Names of models.
#[derive(Debug)]
pub enum Model {
    /// One name.
    Exactly(Box<str>),
    /// All that begin so.
    Beginning(Box<str>),
}

impl Model {
    /// Reads one; a `*` at the end stands for anything.
    pub(crate) fn parse(text: String) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Beginning(beginning.into()),
            None => Self::Exactly(text.into()),
        }
    }

    fn means(&self, name: &str) -> bool {
        match self {
            Self::Exactly(text) => **text == *name,
            Self::Beginning(text) => name.starts_with(&**text),
        }
    }
}

/// What rules want to know of a request beyond its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Anything.
    pub body: bool,
    /// Which model it asks for.
    pub model: bool,
    /// What cannot be read may be refused: not all of them are in shadow mode.
    pub firm: bool,
    /// The most that it can come to.
    pub bound: bool,
}

impl Needs {
    /// Of all these rules.
    pub(crate) fn of(rules: &[Rule]) -> Self {
        rules.iter().map(Rule::needs).fold(Self::default(), Self::and)
    }

    /// Of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            body: self.body || other.body,
            model: self.model || other.model,
            firm: self.firm || other.firm,
            bound: self.bound || other.bound,
        }
    }
}

/// Paths: whole segments, `{name}` stands for one, a last `*` for any number.
#[derive(Debug)]
pub struct Pattern {
    /// `None`: any.
    segments: Box<[Option<Box<str>>]>,
    open: bool,
}

impl Pattern {
    /// Reads one; the control plane has checked it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('/')?;
        let (text, open) = match text.strip_suffix('*') {
            Some(rest) if rest.is_empty() || rest.ends_with('/') => (rest.trim_end_matches('/'), true),
            Some(_) | None => (text, false),
        };
        let segment = |segment: &str| (!segment.starts_with('{')).then(|| segment.into());
        let segments = if open && text.is_empty() { Box::default() } else { text.split('/').map(segment).collect() };
        Some(Self { segments, open })
    }

    /// Whether a vendor path (without the query) is one of them.
    pub(crate) fn covers(&self, path: &str) -> bool {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        for segment in &self.segments {
            match (parts.next(), segment) {
                (Some(part), Some(segment)) if *part == **segment => {}
                (Some(part), None) if !part.is_empty() => {}
                (Some(_) | None, _) => return false,
            }
        }
        self.open || parts.next().is_none()
    }
}

impl Rule {
    /// About every request, enforced, by estimates.
    pub fn new(name: &str, owner: Owner, metric: Metric, limit: u64, window: Window) -> Self {
        Self {
            name: name.into(),
            owner,
            metric,
            limit,
            window,
            resources: Box::default(),
            shadow: false,
            unpriced_allowed: false,
            output_estimate: 0,
            models: Box::default(),
            strict: false,
            meter: OnceLock::new(),
        }
    }

    /// Where it is counted.
    pub(crate) fn meter<'a>(&'a self, meters: &Meters) -> &'a Arc<Meter> {
        self.meter.get_or_init(|| {
            let meter = meters.find(self.place(), self.window);
            if meters.board().is_some() {
                // What refuses nothing is counted where it happens.
                meter.share((!self.shadow).then(|| self.identity()));
            }
            meter
        })
    }

    /// Whether it speaks of requests to this path.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.resources.is_empty() || self.resources.iter().any(|pattern| pattern.covers(path))
    }

    /// Whether it speaks of requests for a model that goes by these names; none: nobody knows, so it may be any.
    pub(crate) fn speaks_of<'a>(&self, mut names: impl Iterator<Item = &'a str> + Clone) -> bool {
        self.models.is_empty()
            || names.clone().next().is_none()
            || names.any(|name| self.models.iter().any(|model| model.means(name)))
    }

    /// Whether more than the head of a request must be known.
    pub(crate) fn weighs(&self) -> bool {
        self.needs().body
    }

    /// Whether it refuses what has no price.
    pub(crate) fn wants_price(&self) -> bool {
        self.metric == Metric::Cost && !self.shadow && !self.unpriced_allowed
    }

    fn needs(&self) -> Needs {
        let model = self.metric == Metric::Cost || !self.models.is_empty();
        let bound = self.strict && !self.shadow;
        let body = model || self.strict || matches!(self.metric, Metric::OutputTokens | Metric::TotalTokens);
        Needs { body, model, firm: model && !self.shadow, bound }
    }

    fn identity(&self) -> Identity {
        let (api_key, owner) = match self.owner {
            Owner::ApiKey(id) => (true, id),
            Owner::Endpoint(id) => (false, id),
        };
        Identity { owner, api_key, name: self.name.clone(), metric: self.metric, window: self.window }
    }

    fn place(&self) -> Place {
        let mut hasher = DefaultHasher::new();
        (&self.name, self.metric, self.window).hash(&mut hasher);
        let (Owner::ApiKey(owner) | Owner::Endpoint(owner)) = self.owner;
        Place { owner, rule: hasher.finish() }
    }
}

/// How a rule's window is told.
impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::calendar::Period;
        match self {
            Self::Rolling(window) if window.subsec_millis() == 0 => write!(formatter, "{}s", window.as_secs()),
            Self::Rolling(window) => write!(formatter, "{}ms", window.as_millis()),
            Self::Calendar(Period::Day) => formatter.write_str("day"),
            Self::Calendar(Period::Month) => formatter.write_str("month"),
            Self::InFlight => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_speak_of_whole_segments() {
        for (pattern, path, covers) in [
            ("/v1/files/{file}", "/v1/files/a", true),
            ("/v1/files/{file}", "/v1/files", false),
            ("/v1/files/{file}", "/v1/files/", false),
            ("/v1/files/{file}", "/v1/files/a/b", false),
            ("/v1/files/*", "/v1/files/a/b", true),
            ("/v1/files/*", "/v1/files", true),
            ("/v1/files/*", "/v1/filesystem", false),
            ("/*", "/anything/at/all", true),
            ("/", "/", true),
            ("/v1/x", "/v1/X", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().covers(path), covers, "{pattern} {path}");
        }
        assert!(Pattern::parse("v1").is_none());
    }
}
