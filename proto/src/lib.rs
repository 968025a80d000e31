//! The contract between the planes: messages, the state hash over them, and the formats of ids and tokens that both
//! sides must read alike. No behaviour beyond that.

pub mod id;
pub mod rule;
pub mod state;
pub mod token;

/// `lockgate.config.v1`: configuration on its way to the nodes.
#[allow(missing_docs, clippy::pedantic)]
pub mod config {
    tonic::include_proto!("lockgate.config.v1");
}

/// `lockgate.usage.v1`: usage on its way to the ledger.
#[allow(missing_docs, clippy::pedantic)]
pub mod usage {
    tonic::include_proto!("lockgate.usage.v1");
}

/// `lockgate.quota.v1`: limits that hold over all nodes.
#[allow(missing_docs, clippy::pedantic)]
pub mod quota {
    tonic::include_proto!("lockgate.quota.v1");
}
