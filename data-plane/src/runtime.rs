//! The immutable, indexed form of a configuration: everything a request needs to know, ready to be looked up. One file
//! per noun; each reads its wire message once, in its own `wire` module, and nothing behind it knows the wire.
//!
//! A request takes one `Arc<Runtime>` when it begins and finishes on it, whatever is swapped in meanwhile.

pub mod access;
pub mod api_key;
pub(crate) mod carried;
pub mod configuration;
pub mod context;
pub mod endpoint;
pub mod invalid;
pub mod key_location;
mod limit;
pub mod models;
pub mod price;
pub mod provider;
pub mod proxy;
pub(crate) mod request_id;
pub mod secret;
pub mod settings;
pub mod template;

mod compile;

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use self::api_key::{ApiKeys, Credential, Digest};
pub use self::configuration::{Configuration, Key};
use self::context::Matcher;
use self::endpoint::Endpoint;
use self::invalid::Code;
use self::settings::Settings;

/// One configuration, compiled.
#[derive(Default)]
pub struct Runtime {
    revision: u64,
    settings: Settings,
    endpoints: Matcher<Arc<Endpoint>>,
    keys: ApiKeys,
}

/// What compiling gave.
#[derive(Debug)]
pub struct Compiled {
    /// To be served.
    pub runtime: Runtime,
    /// The bodies that `runtime` was made of: where a wanted body was rejected, the one served before, or none.
    pub served: Configuration,
    /// Every wanted body that is not served, and why.
    pub rejected: Vec<Rejection>,
}

/// A resource that is not served in its wanted form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which.
    pub key: Key,
    /// Of the rejected form.
    pub revision: u64,
    /// JSON pointer into it; empty: the whole.
    pub pointer: String,
    /// Why.
    pub code: Code,
    /// For the author; holds no secret.
    pub message: String,
}

impl Runtime {
    /// Compiles `wanted`. A body that does not validate is replaced by the one in `served` under the same key, and
    /// where that does not fit either it is held back together with what depends on it. Slow for large
    /// configurations: call it off the async threads.
    pub fn compile(wanted: &Configuration, served: &Configuration) -> Compiled {
        compile::compile(wanted, served)
    }

    /// Of the configuration it was made of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What holds for the whole gateway.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The endpoint a path belongs to, and the length of its context.
    pub fn endpoint(&self, path: &str) -> Option<(usize, &Arc<Endpoint>)> {
        self.endpoints.find(path)
    }

    /// All endpoints, in no order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// The endpoint with this id. Walks them all: not for the request path.
    pub fn endpoint_by_id(&self, id: Uuid) -> Option<&Arc<Endpoint>> {
        self.endpoints.values().find(|endpoint| endpoint.id == id)
    }

    /// The credential whose SHA-256 this is.
    pub fn credential(&self, digest: [u8; 32]) -> Option<&Credential> {
        self.keys.find(&Digest(digest))
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Runtime")
            .field("revision", &self.revision)
            .field("endpoints", &self.endpoints.len())
            .field("credentials", &self.keys.len())
            .finish_non_exhaustive()
    }
}
