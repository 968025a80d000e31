//! The data plane: serves Invoke URLs from the configuration it was last given, whatever becomes of the control plane.

pub mod config;
pub mod dialect;
pub mod pipeline;
pub mod runtime;

pub use config::Config;
