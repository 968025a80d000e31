//! The control plane: the store of record, the REST API and console on it, and the link that feeds the nodes.

pub mod api;
pub mod model;
pub mod random;
pub mod seal;
pub mod sensitive;
pub mod store;
