//! The domain's vocabulary: pure types and rules, one file per noun. No IO, no SQL, no HTTP.

pub mod error;
pub mod id;
pub mod role;
