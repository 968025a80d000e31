//! The binary as its users start it, and the files that ship it. Everything goes through the real `lockgate`.

// A failed `unwrap` is a failed test, and says where.
#![allow(clippy::unwrap_used)]

mod compose;
mod dev;
mod help;
mod planes;
mod run;
mod sample;
