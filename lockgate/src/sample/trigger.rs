//! Words in a prompt that make the sample upstream misbehave, and the failures it knows.
//!
//! One table is both the parser and the text that `lockgate dev` prints.

/// What a prompt may ask for beside an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    Refuse(Refused),
    Slow,
    Silent,
    Cut,
    Break,
    Long,
    Empty,
}

/// The refusals that can be provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Invalid,
    Credential,
    Forbidden,
    Model,
    RateLimit,
    Broken,
    Overloaded,
}

/// Every trigger word with what it does.
const TABLE: [(&str, Trigger, &str); 13] = [
    ("sample:400", Trigger::Refuse(Refused::Invalid), "the vendor finds the request invalid"),
    ("sample:401", Trigger::Refuse(Refused::Credential), "the vendor rejects the credential stored in Lockgate"),
    ("sample:403", Trigger::Refuse(Refused::Forbidden), "the vendor forbids it"),
    ("sample:404", Trigger::Refuse(Refused::Model), "the vendor does not have the model"),
    ("sample:429", Trigger::Refuse(Refused::RateLimit), "the vendor's rate limit, with retry-after: 1"),
    ("sample:500", Trigger::Refuse(Refused::Broken), "the vendor is broken"),
    ("sample:503", Trigger::Refuse(Refused::Overloaded), "the vendor is overloaded (529 at Anthropic)"),
    ("sample:slow", Trigger::Slow, "3 s until the first token"),
    ("sample:silent", Trigger::Silent, "no answer at all"),
    ("sample:cut", Trigger::Cut, "the connection dies half-way through the answer"),
    ("sample:break", Trigger::Break, "an error event half-way through a stream"),
    ("sample:long", Trigger::Long, "some 800 tokens of text"),
    ("sample:empty", Trigger::Empty, "an answer without text"),
];

impl Trigger {
    /// The first trigger word in a prompt.
    pub(super) fn find(prompt: &str) -> Option<Self> {
        let start = prompt.find("sample:")?;
        let rest = &prompt[start..];
        let end = rest["sample:".len()..]
            .find(|letter: char| !letter.is_ascii_alphanumeric())
            .map_or(rest.len(), |at| at + "sample:".len());
        TABLE.iter().find(|(word, ..)| *word == &rest[..end]).map(|(_, trigger, _)| *trigger)
    }
}

/// The table as text, a line each.
pub(crate) fn table() -> String {
    let lines: Vec<String> = TABLE.iter().map(|(word, _, effect)| format!("  {word:<14} {effect}\n")).collect();
    lines.concat()
}

/// Why the sample upstream refuses; each dialect file words it as its vendor does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A trigger word asked for it; the model's name.
    Provoked(Refused, String),
    /// Another credential than the one it was started with.
    Credential,
    /// No credential where this vendor expects it.
    NoCredential,
    /// The body is no JSON, or no object.
    Malformed,
    /// A required field is absent.
    Missing(&'static str),
    /// An argument this vendor does not know.
    Unknown(&'static str),
    /// The vendor has no such path; method and path.
    Route(String, String),
    /// More than 32 MiB, or a body that never ended.
    Body,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_found_inside_a_sentence() {
        assert_eq!(Trigger::find("please sample:429, now"), Some(Trigger::Refuse(Refused::RateLimit)));
        assert_eq!(Trigger::find("sample:cut"), Some(Trigger::Cut));
        assert_eq!(Trigger::find("a sample: of text"), None);
        assert_eq!(Trigger::find("sample:4000"), None);
    }

    #[test]
    fn every_trigger_word_finds_itself() {
        for (word, trigger, _) in TABLE {
            assert_eq!(Trigger::find(word), Some(trigger));
            assert!(table().contains(word));
        }
    }
}
