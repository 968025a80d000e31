//! Errors of Lockgate's own in the words of a dialect, so that each SDK raises its own typed exception with a message
//! in it and the request id at hand.

use serde_json::{Value, json};

use super::{Dialect, anthropic, bedrock, gemini, mistral, openai};

/// An error, before it has a shape.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    /// HTTP status.
    pub status: u16,
    /// Closed label.
    pub label: &'a str,
    /// What happened and what to do next.
    pub message: &'a str,
    /// Typed request id.
    pub request_id: &'a str,
}

impl Fault<'_> {
    /// As the body of an answer. No dialect: one body with the members that all of them read.
    pub fn body(&self, dialect: Option<Dialect>) -> Vec<u8> {
        let value = match dialect {
            Some(Dialect::OpenAi) => openai::error(self),
            Some(Dialect::Anthropic) => anthropic::error(self),
            Some(Dialect::Gemini) => gemini::error(self),
            Some(Dialect::Mistral) => mistral::error(self),
            Some(Dialect::Bedrock) => bedrock::error(self),
            None => self.for_everyone(),
        };
        value.to_string().into_bytes()
    }

    /// As an event of a server-sent stream that has already begun.
    pub fn event(&self, dialect: Dialect) -> Vec<u8> {
        let name = match dialect {
            Dialect::Anthropic => "event: error\n",
            Dialect::OpenAi | Dialect::Gemini | Dialect::Mistral | Dialect::Bedrock => "",
        };
        let body = String::from_utf8_lossy(&self.body(Some(dialect))).into_owned();
        format!("{name}data: {body}\n\n").into_bytes()
    }

    /// As a message of an Amazon event stream that has already begun.
    pub fn exception(&self) -> Vec<u8> {
        bedrock::exception(self)
    }

    /// What Bedrock's clients read from the header `x-amzn-errortype`.
    pub fn bedrock_kind(&self) -> &'static str {
        bedrock::kind(self.status)
    }

    /// Every SDK finds its members; where two read one name in two types, the number of Google's clients wins, because
    /// theirs alone fails on the other.
    fn for_everyone(&self) -> Value {
        json!({
            "type": "error",
            "error": {
                "type": anthropic::kind(self.status),
                "message": self.message,
                "code": self.status,
                "status": gemini::status(self.status),
                "reason": self.label,
                "param": null,
            },
            "message": self.message,
            "request_id": self.request_id,
        })
    }
}
