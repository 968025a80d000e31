//! Secrets: values that go in and never come out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::resource::Noun;
use crate::sensitive::Sensitive;

/// What is told about a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// The end of the value; empty where the value is short.
    pub last4: String,
    /// Raised by every new value, from 1.
    pub version: i64,
    /// Names of the endpoints whose draft or deployment uses it.
    pub used_by: Vec<String>,
}

/// A secret as a client writes it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretInput {
    /// Never read back.
    #[schema(value_type = String, write_only)]
    pub value: Sensitive,
}

impl Noun for SecretInput {
    const INPUT: &'static str = "SecretInput";
}

/// A value must fit into a header.
pub fn check_value(value: &Sensitive) -> Result<(), &'static str> {
    let text = value.expose();
    if text.is_empty() || text.len() > 8192 {
        return Err("must be 1 to 8192 characters");
    }
    if !text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
        return Err("must be visible ASCII characters without spaces");
    }
    Ok(())
}
