//! The server: accepts connections one by one while there is room, and bounds what each can use. One thread serves, so that a
//! training beside it keeps its cores; files are read on a few more.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::ServiceExt;

use super::access::MAX_BODY_BYTES;
use crate::system::signals::StopRequest;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 256;
/// Connections that the system keeps waiting; it turns away what is more.
const QUEUE: u32 = 1024;
/// Threads that read files.
const FILE_THREADS: usize = 4;
/// Bytes of the head of a request, and of a body that is read at a time.
const BUFFER_BYTES: usize = 32 << 10;
/// Time for the head of a request, and between two requests of a connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Time after which a connection takes no more requests, and how long its last one may then go on.
const LIFETIME: Duration = Duration::from_secs(600);
/// Time between two looks for a signal.
const LOOK: Duration = Duration::from_millis(250);

/// A server that listens and does not answer yet.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens at an address and the first port of `ports` that is free; port 0 is any free one.
    ///
    /// # Errors
    /// The address is not this machine's, or every port is taken.
    pub fn bind(ip: IpAddr, ports: impl IntoIterator<Item = u16>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(FILE_THREADS)
            .thread_name("web files")
            .build()
            .context("cannot start the server")?;
        let (mut outcome, mut tried) = (Err(std::io::Error::other("no port was named")), SocketAddr::new(ip, 0));
        for port in ports {
            tried.set_port(port);
            outcome = runtime.block_on(async { listen(tried) });
            if outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
                continue;
            }
            break;
        }
        let listener = outcome.with_context(|| format!("cannot listen at {tried}; pass another --bind or --port"))?;
        let address = listener.local_addr().context("cannot listen")?;
        Ok(Self { runtime, listener, address })
    }

    /// Returns the address with the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until a signal comes.
    pub fn run(self, router: Router, stop: &StopRequest) {
        let Self { runtime, listener, .. } = self;
        let router = router.layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
        runtime.block_on(accept(&listener, &router, stop));
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

async fn accept(listener: &TcpListener, router: &Router, stop: &StopRequest) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while stop.received().is_none() {
        let Ok(Ok(permit)) = timeout(LOOK, Arc::clone(&room).acquire_owned()).await else { continue };
        match timeout(LOOK, listener.accept()).await {
            Ok(Ok((stream, _))) => drop(tokio::spawn(connection(stream, router.clone(), permit))),
            // Out of descriptors, for example: others will be closed.
            Ok(Err(_)) => tokio::time::sleep(LOOK).await,
            Err(_) => {}
        }
    }
}

/// Answers the requests of one connection; whatever goes wrong ends this connection alone.
async fn connection(stream: TcpStream, router: Router, _permit: OwnedSemaphorePermit) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LIFETIME, connection).await;
    }
}
