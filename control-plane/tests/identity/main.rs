//! Who may come in, and as what: the first owner, signing in, sessions, tokens, roles, the audit log and the master key,
//! through the control plane's public door on both engines.

// A test binary: its modules are for each other, and a failed step ends the test where it stands.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

mod audit;
mod first_owner;
mod harness;
mod keys;
mod roles;
mod sessions;
mod silence;
mod tokens;
mod users;
