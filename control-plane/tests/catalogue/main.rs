//! The catalogue through the control plane's public door, and the store beneath it, on both engines.

// A test binary: its modules are for each other, and a failed step ends the test where it stands.
#![allow(unreachable_pub, missing_docs, dead_code, clippy::unwrap_used)]

mod deployments;
mod gateways;
#[path = "../identity/harness.rs"]
mod harness;
mod keys;
mod ledger;
mod prices;
mod providers;
mod proxies;
mod revisions;
mod steps;
