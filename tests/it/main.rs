//! Stories of the whole product: a control plane, data-plane nodes and vendors, over real sockets.
// A failed `unwrap` is a failed test, and says where.
#![allow(clippy::unwrap_used)]

mod access;
mod admin;
mod bad_input;
mod bad_vendor;
mod benchmark;
mod breaker;
mod command_line;
mod deadlines;
mod edge_flood;
mod edge_http;
mod edge_http2;
mod edge_tls;
mod errors;
mod failover;
mod first_request;
mod harness;
mod house;
mod keys;
mod leaks;
mod leases;
mod ledger;
mod limits;
mod link;
mod metering;
mod model_lists;
mod models;
mod nodes;
mod passthrough;
mod processes;
mod restart;
mod standing;
mod streaming;
mod telemetry;
mod upstream_failures;
mod usage;
