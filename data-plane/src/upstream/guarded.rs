//! A place that is never dialled, known by name only: its addresses are asked for when it matters.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Where the control plane is, as the node was told.
pub(crate) struct Guarded {
    host: Box<str>,
    pub(crate) port: u16,
    /// What it was found at last: a name that cannot be resolved for a moment is guarded all the same.
    last: ArcSwap<Vec<SocketAddr>>,
}

impl Guarded {
    /// `None`: not `name:port`. Plain addresses need no asking.
    pub(crate) fn of(address: &str) -> Option<Self> {
        if address.parse::<SocketAddr>().is_ok() {
            return None;
        }
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let known = host.parse::<Ipv6Addr>().is_ok() || !host.contains(':');
        let port = port.parse().ok()?;
        (known && !host.is_empty()).then(|| Self { host: host.into(), port, last: ArcSwap::default() })
    }

    pub(crate) async fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        if let Ok(found) = tokio::net::lookup_host((&*self.host, self.port)).await {
            self.last.store(Arc::new(found.collect()));
        }
        self.last.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_with_a_port_is_looked_up() {
        let guarded = Guarded::of("localhost:9443").unwrap();
        assert_eq!(guarded.port, 9443);
        let found = guarded.addresses().await;
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback() && address.port() == 9443));
        for other in ["127.0.0.1:9443", "[::1]:9443", "localhost", "localhost:x", ":9443", "a:b:1"] {
            assert!(Guarded::of(other).is_none(), "{other}");
        }
    }
}
