//! What a booted board reaches by its network: the HTTP server of its worker and its NFS server, where LAVA has it
//! fetch an overlay from (`transfer_overlay`), and nothing else.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use meta_lava_formats::compress::decompress;
use meta_lava_formats::tar;
use meta_lava_formats::tree::Tree;
use nix::errno::Errno;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{blocking, root};
use crate::net::{FetchError, Net};
use crate::patience::after_failed_accept;

/// Connections of one board at a time; more wait.
const CONNECTIONS: usize = 16;

/// The way of one board's userland to its worker's HTTP server.
#[derive(Clone)]
pub struct Gateway {
    net: Net,
    server: SocketAddrV4,
}

impl Gateway {
    /// To `server`, by the board's interface `net`.
    #[must_use]
    pub fn new(net: &Net, server: SocketAddrV4) -> Self {
        Self { net: net.of_userland(), server }
    }

    /// What the board knows the server by.
    #[must_use]
    pub fn server(&self) -> SocketAddrV4 {
        self.server
    }

    /// Answers for the server on a socket of the board's, until dropped.
    pub(super) async fn serve(self, listener: TcpListener) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                    let stream = match accepted {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            after_failed_accept("a booted board's", &error).await;
                            continue;
                        }
                    };
                    let gateway = self.clone();
                    let answer = service_fn(move |request| gateway.clone().answer(request));
                    // A client may close its half once it has asked, as `nc` does.
                    let mut http = http1::Builder::new();
                    http.half_close(true);
                    connections.spawn(http.serve_connection(TokioIo::new(stream), answer));
                }
                // How it ended is the board's concern: its own client says so.
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// What the worker exports by NFS at `path`, as the board's kernel mounts it, which the ledger has; or the error that it has
    /// (`mnt_errtbl` in Linux's `fs/nfs/mount_clnt.c`).
    pub(super) async fn export(&self, server: Ipv4Addr, path: &str) -> Result<Tree, Errno> {
        if server != *self.server.ip() {
            return Err(Errno::EHOSTUNREACH);
        }
        let tree = self.net.nfs_tree(&server.to_string(), path).await.map_err(|error| match error {
            FetchError::NotFound(_) => Errno::ENOENT,
            FetchError::Refused(_) => Errno::EACCES,
            FetchError::Timeout(_) => Errno::ETIMEDOUT,
            FetchError::Tftp(..) | FetchError::Bad(_) => Errno::EIO,
        })?;
        let ledger = self.net.ledger().clone();
        let noted = blocking(move || {
            root::note(&ledger, "export", String::new(), &tree);
            tree
        });
        noted.await.ok_or(Errno::EIO)
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, body) = match *request.method() {
            Method::GET => {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                match self.fetch(path).await {
                    Ok(body) => (StatusCode::OK, body.into()),
                    Err(error) => (status(&error), Bytes::from(format!("{error}\n"))),
                }
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        Ok(response)
    }

    /// Fetches a file from the server. Of an archive the ledger has the listing too, as of a
    /// root file system, before the board has the first byte.
    async fn fetch(&self, path: &str) -> Result<Vec<u8>, FetchError> {
        let bytes = self.net.http(&format!("http://{}{path}", Host(self.server)), "").await?;
        let ledger = self.net.ledger().clone();
        let noted = blocking(move || {
            let unpacked = decompress(&bytes, root::UNPACKED_LIMIT).ok();
            let tree = unpacked.and_then(|unpacked| tar::read(&unpacked).ok());
            if let Some(tree) = tree.filter(|tree| !tree.nodes.is_empty()) {
                super::note_archive(&ledger, meta_lava_formats::sha256(&bytes), &tree);
            }
            bytes
        });
        noted.await.ok_or_else(|| FetchError::Bad(format!("{path}: could not be looked into")))
    }
}

/// A server as a URL names it: without the port that HTTP has anyway.
struct Host(SocketAddrV4);

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.port() {
            80 => self.0.ip().fmt(f),
            _ => self.0.fmt(f),
        }
    }
}

/// What the board is told.
fn status(error: &FetchError) -> StatusCode {
    match error {
        FetchError::NotFound(_) => StatusCode::NOT_FOUND,
        FetchError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        FetchError::Refused(_) | FetchError::Tftp(..) | FetchError::Bad(_) => StatusCode::BAD_GATEWAY,
    }
}
