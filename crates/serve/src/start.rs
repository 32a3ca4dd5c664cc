//! A service from its folder's opening to its end.

use crate::book::{Book, NotOpened};
use crate::error::{Code, Error, Result};
use crate::service::Service;
use crate::{api, bucket, engine, listener, operator, page, store, tls, watch};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a service is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The certificate that it shows; none where TLS is left to a proxy.
    pub tls: Option<Arc<tls::Tls>>,
    /// The bucket that keys and answers lie in; the folder where there is none.
    pub bucket: Option<Arc<bucket::Bucket>>,
    /// What the machine may be used for.
    pub capacity: engine::Capacity,
    /// Connections at the same time.
    pub connections: usize,
    /// How long clients may take.
    pub patience: api::Patience,
    /// Pause between looks for what is past its time.
    pub sweep: Duration,
    /// The page for browsers, if one is served.
    pub page: Option<Arc<page::Page>>,
}

/// Serves a folder until `stop` says so; runs write checkpoints then, and go on when the folder is served again.
///
/// # Errors
/// A folder that another server has; an address that can't be listened at; the file system's.
pub fn serve(
    root: &Path,
    start: &Start,
    log: Arc<watch::Log>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<()> {
    let store = store::Store::open(root)?.with_bucket(start.bucket.clone())?;
    let book = Book::open(&root.join(operator::BOOK)).map_err(|e| match e {
        NotOpened::Failed(e) => e,
        NotOpened::InUse => {
            let cause = format!("another server has {}", root.display());
            Error::new(
                Code::Conflict,
                cause,
                "stop it first, or serve another folder",
            )
        }
    })?;
    let service = Service::open(Arc::new(book), Arc::new(store), start.capacity.clone(), log)?;
    let service = Arc::new(service);
    operator::listen(&service, root)?;
    let mut workers = Vec::new();
    for number in 0..start.capacity.runs.max(1) {
        let engine = service.engine().clone();
        let thread = std::thread::Builder::new().name(format!("run {number}"));
        let thread = thread.stack_size(8 << 20).spawn(move || engine.work());
        workers.push(thread.map_err(Error::io("a thread"))?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::io("threads for connections"))?;
    let app = api::App {
        service: service.clone(),
        patience: start.patience,
        page: start.page.clone(),
    };
    let listened = runtime.block_on(async {
        let swept = tokio::spawn(sweep(service.clone(), start.sweep));
        let mut stopped = stop.clone();
        let engine = service.engine().clone();
        let stopping = tokio::spawn(async move {
            // runs end their step while connections end
            let _ = stopped.wait_for(|s| *s).await;
            engine.stop();
        });
        let at = (start.listen, start.tls.clone());
        let listened = listener::listen(app, at, start.connections, stop).await;
        swept.abort();
        stopping.abort();
        listened
    });
    service.engine().stop();
    for worker in workers {
        let _ = worker.join();
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    service.log().say("stopped", serde_json::json!({}));
    listened
}

async fn sweep(service: Arc<Service>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        if let Err(e) = tokio::task::block_in_place(|| service.sweep()) {
            service
                .log()
                .say("sweep_failed", serde_json::json!({ "cause": e.cause }));
        }
    }
}
