//! What the control plane says about itself: the log's one line per request.
//!
//! Bodies, credentials, tokens and cookies are never logged. The subscriber is the binary's: a process has one, and it
//! may run both planes.

use std::time::Duration;

/// The one line of a finished request. `route` is the pattern that matched, never the path itself: ids are fine there,
/// but so would be whatever a client types.
pub(crate) fn request(method: &str, route: &str, status: u16, took: Duration, actor: Option<&str>) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        http.method = method,
        http.route = route,
        http.status = status,
        duration_ms,
        actor = actor.unwrap_or("none"),
        "{method} {route} {status} in {duration_ms} ms"
    );
}
