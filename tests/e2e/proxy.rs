//! A way to the engine that can be made to hang: a socket that hands everything on
//! until it is told not to any more.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The socket.
pub struct Proxy {
    path: PathBuf,
    frozen: Arc<AtomicBool>,
}

impl Proxy {
    /// A socket in `folder` that leads to the engine of this machine.
    pub fn new(folder: &Path) -> Self {
        let engine = socket();
        let path = folder.join("engine.lock");
        let listener = UnixListener::bind(&path).unwrap();
        let frozen = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&frozen);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&engine)) else { return };
                let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (one, other) = (Arc::clone(&state), Arc::clone(&state));
                std::thread::spawn(move || pass_on(client, server, &one));
                std::thread::spawn(move || pass_on(forth, back, &other));
            }
        });
        Self { path, frozen }
    }

    /// For `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// From now on nothing gets through, and nothing is refused.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }
}

/// The socket of the engine, which has to be on this machine.
pub fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine: PathBuf = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").into();
    assert!(engine.exists(), "the engine has to be on this machine");
    engine
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, frozen: &AtomicBool) {
    let mut buffer = [0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        if frozen.load(Ordering::SeqCst) {
            // Neither an answer nor an end.
            loop {
                std::thread::park();
            }
        }
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
            return;
        }
    }
}
