//! The REST API. Handlers are short: who, what, one call, one answer; no SQL, no rules. Only this room names axum.

pub mod access;
pub mod actor;
pub mod audit;
pub mod bootstrap;
pub mod extract;
pub mod health;
pub mod page;
pub mod problem;
pub mod router;
pub mod session;
pub mod site;
pub mod token;
pub mod user;
