//! Lockgate's control-plane.
