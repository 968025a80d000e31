//! Where clients come in: binding, accepting, and the way every connection ends when the node stops.

pub(crate) mod admin;
pub(crate) mod close;

mod body;
mod connection;
mod frames;
mod head;
mod http1;
mod http2;
mod socket;
mod watch;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::workers::Workers;
use crate::pipeline::Plane;
use crate::presence::{Register, Stage};

/// When a stopping node has told everyone, it waits no longer than this for them to go.
const LAST_CALL: Duration = Duration::from_secs(3);
/// Connections that the kernel keeps for us. Beyond it, it forgets those that it has greeted already, and who waits for
/// us to speak first never learns.
const BACKLOG: u32 = 4096;
/// Out of file descriptors, say: accepting again at once would only burn.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Bound, with its workers, not yet accepting.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    workers: Workers,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr, workers: NonZeroUsize) -> io::Result<Self> {
        let socket = listen(address)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, workers: Workers::start(workers)? })
    }

    /// With the port that was chosen, if none was asked for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until told to stop, then lets what is open finish within the drain time and ends the rest. All its tasks
    /// and threads have ended when this returns.
    pub(crate) async fn run(self, plane: Arc<Plane>, stop: CancellationToken) {
        let Self { socket, address: _, workers } = self;
        let register = Arc::new(Register::new(random()));
        let tasks = TaskTracker::new();
        let streams = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(plane.limits.connections));
        tokio::select! {
            () = accept(&socket, &workers, &plane, &register, &permits, &tasks, &streams) => {}
            () = stop.cancelled() => {}
        }
        plane.draining.store(true, Ordering::Relaxed);
        // Whoever is connected already counts on an answer: closing would reset what waits in the kernel's queue.
        if let Ok(socket) = socket.into_std() {
            while let (Ok(permit), Ok((stream, peer))) = (Arc::clone(&permits).try_acquire_owned(), socket.accept()) {
                if stream.set_nonblocking(true).is_ok() {
                    begin((stream, peer), permit, &workers, &plane, &register, &tasks, &streams);
                }
            }
        }
        tasks.close();
        streams.close();
        register.enter(Stage::Draining);
        if timeout(plane.deadlines.drain, tasks.wait()).await.is_err() {
            plane.ending.store(true, Ordering::Relaxed);
            register.enter(Stage::Ending);
            if timeout(LAST_CALL, tasks.wait()).await.is_err() {
                tracing::error!("client connections did not end when told to");
            }
        }
        // Without their connection they end by themselves.
        if timeout(LAST_CALL, streams.wait()).await.is_err() {
            tracing::error!("requests did not end with their connections");
        }
        workers.shutdown().await;
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that is started again takes its address back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    socket: &TcpListener,
    workers: &Workers,
    plane: &Arc<Plane>,
    register: &Arc<Register>,
    permits: &Arc<Semaphore>,
    tasks: &TaskTracker,
    streams: &TaskTracker,
) {
    loop {
        // At the limit the others wait in the kernel's queue.
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else { return };
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        // Leaves the reactor it was accepted on for the worker's own.
        match stream.into_std() {
            Ok(stream) => begin((stream, peer), permit, workers, plane, register, tasks, streams),
            Err(error) => tracing::warn!(error = %error, "cannot serve a connection"),
        }
    }
}

/// Gives a connection to a worker.
fn begin(
    (stream, peer): (std::net::TcpStream, SocketAddr),
    permit: OwnedSemaphorePermit,
    workers: &Workers,
    plane: &Arc<Plane>,
    register: &Arc<Register>,
    tasks: &TaskTracker,
    streams: &TaskTracker,
) {
    // Only a wish: a connection without it still works.
    let _ = stream.set_nodelay(true);
    let place = workers.place();
    let presence = Register::arrive(register, place.worker(), Some(peer.ip()));
    let (plane, streams) = (Arc::clone(plane), streams.clone());
    let serve = async move {
        plane.metrics.connections.increase();
        match TcpStream::from_std(stream) {
            Ok(stream) => connection::serve(stream, presence, Arc::clone(&plane), streams).await,
            Err(error) => {
                presence.leave();
                tracing::warn!(error = %error, "cannot serve a connection");
            }
        }
        plane.metrics.connections.decrease();
        drop(permit);
    };
    place.spawn(tasks, serve);
}

/// HTTP/1.1 over any transport.
#[cfg(test)]
pub(crate) async fn serve_http1<S>(stream: S, presence: &Arc<crate::presence::Presence>, plane: Arc<Plane>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    http1::serve(stream, &[], presence, plane).await;
}

/// HTTP/2 over any transport.
#[cfg(test)]
pub(crate) async fn serve_http2<S>(
    stream: S,
    presence: &Arc<crate::presence::Presence>,
    plane: Arc<Plane>,
    streams: TaskTracker,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    http2::serve(stream, &[], presence, plane, streams).await;
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Request ids also hold the time: without randomness they are still distinct within the process.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
