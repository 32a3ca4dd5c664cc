//! A way between client and server that breaks, and keeps what it saw.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes to the server and from it, after which a connection breaks.
pub(crate) type Cut = (usize, usize);

/// The way.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Bytes that went to the server.
    pub(crate) sent: Arc<Mutex<Vec<u8>>>,
    /// Connections so far.
    pub(crate) count: Arc<AtomicUsize>,
}

impl Proxy {
    /// To this server; `cut` says where a connection breaks, by its number.
    pub(crate) fn new(to: SocketAddr, cut: impl Fn(usize) -> Cut + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("an address");
        let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
        let count: Arc<AtomicUsize> = Arc::default();
        let (seen, counted) = (sent.clone(), count.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (up, down) = cut(counted.fetch_add(1, Ordering::SeqCst));
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                let pair = |a: &TcpStream, b: &TcpStream| {
                    [a, b].map(|s| s.try_clone().expect("a descriptor"))
                };
                let (one, other) = (pair(&client, &server), pair(&server, &client));
                let seen = seen.clone();
                std::thread::spawn(move || pass(one, up, Some(&seen)));
                std::thread::spawn(move || pass(other, down, None));
            }
        });
        Self {
            address,
            sent,
            count,
        }
    }
}

fn pass([mut from, mut to]: [TcpStream; 2], most: usize, seen: Option<&Mutex<Vec<u8>>>) {
    let (mut had, mut piece) = (0, vec![0; 16 << 10]);
    while had < most {
        let Ok(count @ 1..) = from.read(&mut piece) else {
            // an end that was meant
            let _ = to.shutdown(Shutdown::Write);
            return;
        };
        let count = count.min(most - had);
        had += count;
        if let Some(seen) = seen {
            seen.lock()
                .expect("no panic")
                .extend_from_slice(&piece[..count]);
        }
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    // both ends, both ways
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
