//! What happens, as it happens: server-sent events. A stream ends with the session or token that opened it, and when
//! the control plane stops; a watcher comes back with `Last-Event-ID` and misses nothing recent.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use tokio::time::{Instant, interval_at};

use proto::token;

use super::actor::{Actor, Credential};
use super::problem::Problem;
use super::router::App;
use crate::events::{Event, Watch};
use crate::model::error::Error;
use crate::model::role::Permission;
use crate::store::{access_token, now, session};

/// What the events tell of.
const NEEDED: [Permission; 2] = [Permission::CatalogueRead, Permission::UsageRead];
/// Keeps proxies from closing a quiet stream.
const COMMENT: Duration = Duration::from_secs(15);
/// How often it is asked whether session or token still hold.
const RECHECK: Duration = Duration::from_secs(5);

/// Watch revisions, deployments, nodes and requests
#[utoipa::path(
    get, path = "/events", tag = "usage", operation_id = "watchEvents",
    params(("Last-Event-ID" = Option<String>, Header, description = "Id of the last event seen")),
    responses(
        (status = 200, content_type = "text/event-stream", body = String,
         description = "Events `revision`, `deployment`, `node`, `request`; data is JSON"),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn watch(State(app): State<App>, actor: Actor, headers: HeaderMap) -> Result<Response, Error> {
    for permission in NEEDED {
        actor.require(permission)?;
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let watch = app.events.watch(actor.organization_id, last);
    let start = Instant::now();
    let digest = match actor.credential {
        Credential::Session(_) => app.site.read_cookie(&headers).map(|cookie| token::digest(cookie.expose())),
        Credential::Token(_) => {
            let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            bearer.and_then(|text| text.split_once(' ')).map(|(_, text)| token::digest(text.trim()))
        }
    };
    let digest = digest.ok_or(Error::Unauthenticated)?;
    let stream = Stream {
        app,
        actor,
        digest,
        watch,
        comments: interval_at(start + COMMENT, COMMENT),
        rechecks: interval_at(start + RECHECK, RECHECK),
    };
    // The head alone would wait in buffers for the first event.
    let opening = stream::once(async { Ok::<_, std::convert::Infallible>(Bytes::from_static(b": watching\n\n")) });
    let events = stream::unfold(stream, |mut stream| async { stream.next().await.map(|bytes| (Ok(bytes), stream)) });
    let mut response = Response::new(Body::from_stream(futures_util::StreamExt::chain(opening, events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

struct Stream {
    app: App,
    actor: Actor,
    /// Of the cookie or token.
    digest: [u8; 32],
    watch: Watch,
    comments: tokio::time::Interval,
    rechecks: tokio::time::Interval,
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                () = self.app.stop.cancelled() => return None,
                event = self.watch.next() => return event.map(|event| render(&event)),
                _ = self.comments.tick() => return Some(Bytes::from_static(b":\n\n")),
                _ = self.rechecks.tick() => if !self.holds().await { return None },
            }
        }
    }

    /// Whether who watches may still. A store that is away is no reason to send anyone away.
    async fn holds(&self) -> bool {
        let at = now();
        if self.actor.expires_at.is_some_and(|end| end <= at) {
            return false;
        }
        let engine = self.app.store.engine();
        let role = match self.actor.credential {
            Credential::Session(_) => {
                session::find(engine, &self.digest, at).await.map(|found| found.map(|session| session.role))
            }
            Credential::Token(_) => {
                access_token::find(engine, &self.digest, at).await.map(|found| found.map(|token| token.role))
            }
        };
        match role {
            Ok(role) => role.is_some_and(|role| NEEDED.iter().all(|permission| role.may(*permission))),
            Err(_) => true,
        }
    }
}

fn render(event: &Event) -> Bytes {
    // JSON as serde writes it has no line breaks.
    Bytes::from(format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.topic.as_str(), event.data))
}
