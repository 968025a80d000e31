//! The control plane: the store of record, the REST API and console on it, and the link that feeds the nodes.

pub mod api;
pub mod ca;
pub mod config;
pub mod events;
pub mod intake;
pub mod lease;
pub mod link;
pub mod listener;
pub mod model;
pub mod password;
pub mod publisher;
pub mod random;
pub mod receipts;
pub mod seal;
pub mod sensitive;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod web;

pub use config::Config;
pub use server::{Error, Handle, LocalAdmin, run, start, verify_audit};
pub use store::audit::Verified;
