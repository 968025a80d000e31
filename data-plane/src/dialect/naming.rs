//! Finds the model that a request's body names, piece by piece, where something depends on it: where it stands to the
//! byte, that there is only one, and that no other reader could find another. Unlike [`super::scan`] it does judge: what
//! it cannot follow is an error, because a vendor might.

mod form;
mod json;

pub use self::form::FormNaming;
pub use self::json::JsonNaming;

/// Bytes of a name that are read; a longer one is unreadable.
const MAX_NAME: usize = 512;

/// A model, and the bytes of the body that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Decoded.
    pub model: String,
    /// Of the first byte to be replaced with another name; in JSON, of the quote.
    pub start: u64,
    /// Behind the last one.
    pub end: u64,
}

/// Why a name cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is a second one, or one in another case.
    Ambiguous,
    /// The body is not what it should be.
    Unreadable,
}

/// A reader of one body.
#[derive(Debug)]
pub enum Naming {
    /// `application/json`.
    Json(JsonNaming),
    /// `multipart/form-data`.
    Form(FormNaming),
}

impl Naming {
    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Json(json) => json.feed(piece),
            Self::Form(form) => form.feed(piece),
        }
    }

    /// What was found; complete, but not yet known to be the only one.
    pub fn named(&self) -> Option<&Named> {
        match self {
            Self::Json(json) => json.named(),
            Self::Form(form) => form.named(),
        }
    }

    /// A name in the place of the one that was found.
    pub fn written(&self, model: &str) -> Vec<u8> {
        match self {
            Self::Json(_) => serde_json::Value::from(model).to_string().into_bytes(),
            Self::Form(_) => model.as_bytes().to_vec(),
        }
    }
}
