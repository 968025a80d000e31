//! The floor: as little as a gateway can do. A key is looked up in a map, the headers are rewritten, the bodies stream;
//! nothing is checked, limited, observed or recorded. One thread, connections kept on both sides.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::{feeder::configuration, process};

type Line = client::conn::http1::SendRequest<Incoming>;

/// As many as the data plane keeps.
const IDLE: usize = 256;
const KEY: HeaderName = HeaderName::from_static("x-api-key");
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    TE,
    UPGRADE,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

struct Floor {
    keys: HashMap<HeaderValue, HeaderValue>,
    upstream: SocketAddr,
    host: HeaderValue,
    idle: Mutex<Vec<Line>>,
}

/// Serves until its input is closed.
pub(crate) async fn serve(upstream: SocketAddr, keys: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut credential = HeaderValue::from_static("Bearer sk-load");
    credential.set_sensitive(true);
    let keys = (0..keys)
        .map(|number| Ok((configuration::key(number).parse()?, credential.clone())))
        .collect::<anyhow::Result<_>>()?;
    let host = upstream.to_string().parse()?;
    let floor = Arc::new(Floor { keys, upstream, host, idle: Mutex::default() });
    println!("{}", listener.local_addr()?);
    let accepting = async {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let floor = Arc::clone(&floor);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let floor = Arc::clone(&floor);
                    async move { Ok::<_, Infallible>(floor.pass(request).await) }
                });
                // A client that leaves is no error.
                let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    tokio::select! {
        () = process::until_left_alone() => {}
        () = accepting => {}
    }
    Ok(())
}

impl Floor {
    async fn pass(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<Relayed> {
        let Some(credential) = request.headers().get(KEY).and_then(|key| self.keys.get(key)) else {
            return refuse(StatusCode::UNAUTHORIZED);
        };
        let Some(target) = behind_context(request.uri()) else { return refuse(StatusCode::NOT_FOUND) };
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        strip(headers);
        headers.remove(KEY);
        headers.insert(AUTHORIZATION, credential.clone());
        headers.insert(HOST, self.host.clone());
        let Ok(mut line) = self.line().await else { return refuse(StatusCode::BAD_GATEWAY) };
        let Ok(mut answer) = line.send_request(request).await else { return refuse(StatusCode::BAD_GATEWAY) };
        strip(answer.headers_mut());
        answer.map(|body| Relayed(Some((body, line, Arc::clone(self)))))
    }

    async fn line(&self) -> anyhow::Result<Line> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut line) = idle else { break };
            if line.ready().await.is_ok() {
                return Ok(line);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (line, driver) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(line)
    }

    fn keep(&self, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE && !line.is_closed() {
            idle.push(line);
        }
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// `/context/rest?query` as `/rest?query`.
fn behind_context(uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str();
    let at = path.get(1..)?.find('/')? + 1;
    PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(&path.as_bytes()[at..])).ok().map(Uri::from)
}

fn refuse(status: StatusCode) -> Response<Relayed> {
    let mut response = Response::new(Relayed(None));
    *response.status_mut() = status;
    response
}

/// An answer's body; at its end the connection is free for the next request.
struct Relayed(Option<(Incoming, Line, Arc<Floor>)>);

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((body, _, _)) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        let over = frame.is_none() || body.is_end_stream();
        if over && let Some((_, line, floor)) = self.0.take() {
            floor.keep(line);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |(body, _, _)| body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_left_behind() {
        let behind = |path: &str| behind_context(&path.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(behind("/load-7/v1/chat?x=%2F").as_deref(), Some("/v1/chat?x=%2F"));
        assert_eq!(behind("/load-7"), None);
        assert_eq!(behind("/"), None);
    }
}
