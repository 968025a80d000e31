//! The data plane: serves Invoke URLs from the configuration it was last given, whatever becomes of the control plane.

pub mod config;
pub mod dialect;
pub mod error;
pub mod follow;
pub mod gateway;
pub mod lease;
pub mod limit;
pub mod link;
pub mod node;
pub mod pipeline;
pub mod report;
pub mod request_log;
pub mod runtime;

mod listener;
mod presence;
#[cfg(test)]
mod properties;
mod stripe;
mod telemetry;
mod tls;
mod upstream;

pub use config::Config;
pub use node::{Error, Handle, run, start};
