//! The domain's vocabulary: pure types and rules, one file per noun. No IO, no SQL, no HTTP.

pub mod api_key;
pub mod books;
pub mod context;
pub mod deployment;
pub mod duration;
pub mod endpoint;
pub mod error;
pub mod gateway;
pub mod id;
pub mod key_location;
pub mod limit;
pub mod member;
pub mod name;
pub mod node;
pub mod page;
pub mod provider;
pub mod proxy;
pub mod request;
pub mod resource;
pub mod role;
pub mod secret;
pub mod security;
pub mod template;
pub mod upstream;
pub mod usage;
