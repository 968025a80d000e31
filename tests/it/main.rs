//! Stories of the whole product: a control plane, a data plane and a vendor, over real sockets.

mod harness;
mod house;
