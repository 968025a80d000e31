//! The data plane through its public door: real sockets on both sides, raw bytes where bytes matter, and a
//! configuration that a test holds in its hand instead of a control plane.

#![allow(clippy::unwrap_used, clippy::wildcard_imports, unreachable_pub)]

#[path = "gateway/answers.rs"]
mod answers;
#[path = "gateway/crowd.rs"]
mod crowd;
#[path = "gateway/edge.rs"]
mod edge;
#[path = "gateway/exact.rs"]
mod exact;
#[path = "gateway/fixture.rs"]
mod fixture;
#[path = "gateway/heads.rs"]
mod heads;
#[path = "gateway/keys.rs"]
mod keys;
#[path = "gateway/limits.rs"]
mod limits;
#[path = "gateway/metrics.rs"]
mod metrics;
#[path = "gateway/money.rs"]
mod money;
#[path = "gateway/passing.rs"]
mod passing;
#[path = "gateway/pressure.rs"]
mod pressure;
#[path = "gateway/rules.rs"]
mod rules;
#[path = "gateway/shares.rs"]
mod shares;
#[path = "gateway/stopping.rs"]
mod stopping;
#[path = "gateway/tls.rs"]
mod tls;
#[path = "gateway/tunnel.rs"]
mod tunnel;
#[path = "gateway/upstreams.rs"]
mod upstreams;
