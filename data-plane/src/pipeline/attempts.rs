//! What became of each attempt, in the order in which they were made: for the log line and for the caller. Names are
//! those of the configuration, reasons are from a closed set.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::error::Refusal;
use crate::runtime::provider::Provider;

/// On every answer to a request that was sent to a vendor: `openai-a;503, openai-b;200`.
pub(super) const ATTEMPTS: HeaderName = HeaderName::from_static("x-lockgate-attempts");

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With the head of an answer.
    Status(StatusCode),
    /// Without one that could be passed on.
    Failed(Refusal),
}

/// All of one request.
#[derive(Debug, Default)]
pub(super) enum Attempts {
    #[default]
    None,
    /// One, as its provider had it ready.
    Usual(HeaderValue),
    Told(String),
}

impl Attempts {
    /// One more has ended.
    pub(super) fn ended(&mut self, provider: &Provider, ending: Ending) {
        if let (Self::None, Ending::Status(StatusCode::OK)) = (&*self, ending) {
            *self = Self::Usual(provider.answered.clone());
            return;
        }
        let mut text = match std::mem::take(self) {
            Self::None => String::new(),
            Self::Usual(value) => value.to_str().unwrap_or_default().to_owned(),
            Self::Told(text) => text,
        };
        if !text.is_empty() {
            text.push_str(", ");
        }
        let name = provider.answered.to_str().unwrap_or_default().rsplit_once(';').map_or("", |(name, _)| name);
        // Writing to a String cannot fail.
        let _ = match ending {
            Ending::Status(status) => write!(text, "{name};{}", status.as_str()),
            Ending::Failed(refusal) => write!(text, "{name};{}", refusal.label()),
        };
        *self = Self::Told(text);
    }

    /// `None`: there was none.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Usual(value) => value.to_str().ok(),
            Self::Told(text) => Some(text),
        }
    }

    /// The same for a head.
    pub(super) fn value(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Usual(value) => Some(value.clone()),
            Self::Told(text) => HeaderValue::from_str(text).ok(),
        }
    }
}
