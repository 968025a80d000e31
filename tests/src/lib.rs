//! Lockgate's tests.
