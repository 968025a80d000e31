//! Lockgate's data-plane.
