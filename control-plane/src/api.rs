//! The REST API. Handlers are short: who, what, one call, one answer; no SQL, no rules. Only this room names axum.

pub mod access;
pub mod actor;
pub mod audit;
pub mod bootstrap;
pub mod event;
pub mod extract;
pub mod health;
pub mod node;
pub mod page;
pub mod problem;
pub mod request;
pub mod router;
pub mod session;
pub mod site;
pub mod sync;
pub mod token;
pub mod usage;
pub mod user;
