//! Connections: no more than so many, none that waits for ever, and an end to all of them when the service stops.

use crate::api::{App, router};
use crate::error::{Error, Result};
use crate::tls::Tls;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

/// What is said to a connection that is one too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 106\r\nconnection: close\r\nretry-after: 1\r\n\r\n{\"code\":\"busy\",\"cause\":\"too many connections are open\",\"remedy\":\"try again in a moment, or close others\"}\n";
/// How long connections may take to end once the service stops.
const LAST: Duration = Duration::from_secs(5);
/// Bytes of a request's header.
const HEAD: usize = 64 << 10;

/// A connection whose other side must take what it is sent.
struct Patient<S> {
    stream: TokioIo<S>,
    idle: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    fn new(stream: S, idle: Duration) -> Self {
        Self {
            stream: TokioIo::new(stream),
            idle,
            waits: None,
        }
    }

    /// Holds a write to the time that it may wait.
    fn held<T>(
        &mut self,
        polled: Poll<std::io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<T>> {
        if polled.is_ready() {
            self.waits = None;
            return polled;
        }
        let idle = self.idle;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(idle)));
        match waits.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Read for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.held(polled, cx)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // TLS holds bytes back until it is flushed
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.held(polled, cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.held(polled, cx)
    }
}

/// Answers requests until it is told to stop.
///
/// # Errors
/// An address that can't be listened at.
pub async fn listen(
    app: App,
    (address, tls): (SocketAddr, Option<Arc<Tls>>),
    connections: usize,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(Error::io(format!("listening at {address}")))?;
    let at = listener.local_addr().map_err(Error::io("the listener"))?;
    let service = app.service.clone();
    service.log().say(
        "listening",
        json!({ "address": at.to_string(), "this_machine_alone": at.ip().is_loopback(), "tls": tls.is_some() }),
    );
    let routes = router(app.clone());
    let places = Arc::new(Semaphore::new(connections));
    let ended = stop.clone();
    loop {
        let accepted = {
            let (accept, ended) = (pin!(listener.accept()), pin!(stop.wait_for(|s| *s)));
            match select(accept, ended).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => break,
            }
        };
        let Ok((stream, _)) = accepted else {
            // out of descriptors, say: others end
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            service.metrics().add("connections_refused_total", &[], 1.0);
            // what does not fit into the socket's buffer at once is not said, nor what would be no TLS
            if tls.is_none() {
                let _ = stream.try_write(FULL);
            }
            continue;
        };
        service.metrics().set(
            "connections",
            (connections - places.available_permits()) as f64,
        );
        // small answers are not to wait for more
        let _ = stream.set_nodelay(true);
        let (routes, ended, patience) = (routes.clone(), ended.clone(), app.patience);
        let tls = tls.clone();
        tokio::spawn(async move {
            let idle = patience.idle;
            match tls {
                None => serve(Patient::new(stream, idle), routes, patience.header, ended).await,
                // a handshake that fails is its client's business
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(patience.header, tls.accept(stream)).await {
                        serve(Patient::new(stream, idle), routes, patience.header, ended).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    let all = u32::try_from(connections).unwrap_or(u32::MAX);
    let _ = timeout(LAST, places.acquire_many(all)).await;
    Ok(())
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    io: Patient<S>,
    routes: axum::Router,
    header: Duration,
    mut ended: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(tower::util::MapRequest::new(
        routes,
        |request: hyper::Request<Incoming>| request.map(axum::body::Body::new),
    ));
    let mut builder = http1::Builder::new();
    let builder = builder
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_buf_size(HEAD)
        .max_headers(64);
    let mut connection = pin!(builder.serve_connection(io, service));
    // how a connection ends is its client's business
    if let Either::Left(_) = select(connection.as_mut(), pin!(ended.wait_for(|s| *s))).await {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
