//! Why a resource of the configuration cannot be served. Told to its author; never holds a value that could be secret.

use std::borrow::Cow;

/// The closed set of reasons, as sent to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The bytes are no message of the kind.
    Undecodable,
    /// A kind this node does not know: it is older than the control plane.
    UnknownKind,
    /// A required value is absent.
    Missing,
    /// A value is present and not of its form.
    Malformed,
    /// An enumeration's value this node does not know.
    Unsupported,
    /// What it refers to is not in the configuration.
    UnknownReference,
    /// What it refers to is in the configuration but was itself rejected.
    HeldBack,
    /// Another resource has it already (a context, a digest).
    Taken,
}

impl Code {
    /// As it travels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownKind => "unknown_kind",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::UnknownReference => "unknown_reference",
            Self::HeldBack => "held_back",
            Self::Taken => "taken",
        }
    }
}

/// One reason with the place it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// JSON pointer into the resource; empty: the whole.
    pub pointer: Cow<'static, str>,
    /// Why.
    pub code: Code,
    /// For the author.
    pub message: Cow<'static, str>,
}

impl Invalid {
    /// Shorthand for the constructor.
    pub fn new(pointer: impl Into<Cow<'static, str>>, code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into() }
    }
}
