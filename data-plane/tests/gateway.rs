//! The data plane through its public door: real sockets on both sides, raw bytes where bytes matter, and a configuration
//! that a test holds in its hand instead of a control plane.

#![allow(clippy::unwrap_used, clippy::wildcard_imports, unreachable_pub)]

#[path = "gateway/fixture.rs"]
mod fixture;
#[path = "gateway/passing.rs"]
mod passing;
