//! The data plane: serves Invoke URLs from the configuration it was last given, whatever becomes of the control plane.

pub mod config;
pub mod dialect;
pub mod follow;
pub mod link;
pub mod pipeline;
pub mod report;
pub mod runtime;

pub use config::Config;
