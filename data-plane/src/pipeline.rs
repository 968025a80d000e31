//! The steps of a request, in order; each is one file.

pub mod account;
