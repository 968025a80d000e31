//! The harness of Lockgate's tests: everything a story needs, over real sockets on port 0.
//!
//! * [`Stack`]: a control plane and its nodes in this process, on either database, joined by the real TLS link.
//! * [`Upstream`]: a scripted vendor, as strict as the real one, that keeps every request it saw.
//! * [`Client`]: a developer's side that sends and shows plain HTTP/1.1, byte for byte.
//! * [`collector::Collector`]: where a node's spans and metrics go.
//! * [`Rest`]: an admin's side.
//!
//! Two rules hold in every test without being asked for: a gateway key never reaches a vendor ([`Upstream`] fails the
//! test when it is dropped), and a vendor's credential never reaches a client ([`Client`] and [`Rest`] fail at once).
// This crate is test code: a failed `expect` is a failed test, and says where.
#![allow(clippy::unwrap_used)]

pub mod client;
pub mod collector;
mod eventually;
pub mod postgres;
pub mod process;
pub mod raw;
mod refusal;
mod rest;
mod stack;
pub mod upstream;

pub use client::Client;
pub use eventually::{eventually, within};
pub use refusal::assert_refusal;
pub use rest::{Rest, Told};
pub use stack::{Endpoint, Key, Stack};
pub use upstream::{Answer, Gate, Upstream, Vendor};

/// Every vendor credential in a test begins with this, so that a leak is seen wherever it turns up.
pub const CREDENTIAL_MARK: &str = "vc-planted-";

/// How a gateway key begins.
pub const KEY_MARK: &str = "lgk_";
