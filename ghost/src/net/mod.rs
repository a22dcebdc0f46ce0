//! The board's network interface, and the protocols it speaks.
//!
//! All clients live in user space, in the daemon: no kernel module is needed,
//! and every byte fetched is hashed before the board may use it.

use std::net::{IpAddr, SocketAddr};

use meta_lava_formats::tree::Tree;

use crate::fault::{Faults, Serve, wrong};
use crate::ledger::{Event, Ledger, Protocol};

pub mod http;
pub mod nbd;
pub mod nfs;
pub mod tftp;

/// Why a fetch failed; a firmware prints its own text for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server has no such file.
    #[error("file not found: {0}")]
    NotFound(String),
    /// The server said something else than yes.
    #[error("the server refused: {0}")]
    Refused(String),
    /// A TFTP server's error, other than that there is no such file: its number (RFC 1350)
    /// and its text.
    #[error("the server refused: error {0}: {1}")]
    Tftp(u16, String),
    /// Nobody answered in time.
    #[error("no answer from {0}")]
    Timeout(String),
    /// What came is not the protocol, is cut short, or is too large.
    #[error("bad transfer: {0}")]
    Bad(String),
}

/// Largest file a board takes, in bytes: rubbish from a server must not eat
/// the memory that the other boards need.
pub const FILE_LIMIT: usize = 512 << 20;

/// Largest text that a ledger keeps whole, in bytes.
const TEXT_LIMIT: usize = 16 << 10;

/// What the DHCP server of the ghosts' lab hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Address of the board. It is made up from the board's name and stable: the
    /// packets really leave from the worker's.
    pub address: IpAddr,
    /// The server that boot files come from (`next-server`): the worker.
    pub server: IpAddr,
    /// Where servers of the lab have their TFTP.
    pub tftp_port: u16,
}

impl Lease {
    /// The lease of `board`, in a lab whose worker has the address `server`.
    #[must_use]
    pub fn new(board: &str, server: IpAddr) -> Self {
        let sum = board.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        Self { address: IpAddr::from([192, 168, 77, 2 + sum % 250]), server, tftp_port: tftp::PORT }
    }
}

/// One board's network interface.
#[derive(Clone)]
pub struct Net {
    /// Address of the board, once it has one.
    pub address: Option<IpAddr>,
    /// What the lab's DHCP server hands out.
    lease: Lease,
    ledger: Ledger,
    /// What goes wrong with what it fetches, on purpose.
    faults: Faults,
}

impl Net {
    /// An interface without address; `lease` is what it will get.
    #[must_use]
    pub fn new(lease: Lease, ledger: Ledger, faults: Faults) -> Self {
        Self { address: None, lease, ledger, faults }
    }

    /// The same interface as a booted userland has it, which asked for an address by itself.
    #[must_use]
    pub fn of_userland(&self) -> Self {
        Self { address: Some(self.lease.address), ..self.clone() }
    }

    /// The worker, which DHCP names as the server.
    #[must_use]
    pub fn server(&self) -> IpAddr {
        self.lease.server
    }

    /// What notes its fetches.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Asks the lab's DHCP server for an address; `None` where a fault keeps it from answering.
    pub async fn dhcp(&mut self) -> Option<Lease> {
        if self.faults.fetch("dhcp").await.is_some() {
            return None;
        }
        self.ledger.take(Event::Network { method: "dhcp".into() });
        self.address = Some(self.lease.address);
        Some(self.lease)
    }

    /// Fetches a file by TFTP. `load` is where the firmware puts it, for the ledger.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn tftp(&self, server: &str, path: &str, load: &str) -> Result<Vec<u8>, FetchError> {
        let options = tftp::Options { port: self.lease.tftp_port, ..tftp::Options::default() };
        self.fetch(Protocol::Tftp, server, path, load, tftp::get(server, path, &options)).await
    }

    /// Fetches a file by HTTP.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn http(&self, url: &str, load: &str) -> Result<Vec<u8>, FetchError> {
        self.fetch(Protocol::Http, url, url, load, http::get(url)).await
    }

    /// Fetches a whole exported directory by NFSv3.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn nfs_tree(&self, server: &str, path: &str) -> Result<Tree, FetchError> {
        self.check_address(path);
        let fault = self.faults.fetch(&format!("{} {path}", Protocol::Nfs.name())).await;
        let read = match (failure(fault, server, path), fault) {
            (Some(failure), _) => Err(failure),
            (None, Some(_)) => Err(FetchError::Bad(format!("{path} ends before its size"))),
            (None, None) => nfs::read_tree(server, path).await,
        };
        match read {
            Ok(tree) => Ok(tree),
            Err(error) => {
                self.ledger.take(Event::FileFailed {
                    protocol: Protocol::Nfs,
                    path: path.to_owned(),
                    error: error.to_string(),
                });
                Err(error)
            }
        }
    }

    /// Fetches a whole network block device: the export that `server` has for those who name none.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn nbd(&self, server: &str, device: &str) -> Result<Vec<u8>, FetchError> {
        self.fetch(Protocol::Nbd, server, device, "", nbd::read_export(server)).await
    }

    /// Fetches a file at `path` by `get`, as far as no fault keeps it from that; notes it.
    async fn fetch(
        &self,
        protocol: Protocol,
        server: &str,
        path: &str,
        load: &str,
        get: impl Future<Output = Result<Vec<u8>, FetchError>>,
    ) -> Result<Vec<u8>, FetchError> {
        self.check_address(path);
        let fault = self.faults.fetch(&format!("{} {path}", protocol.name())).await;
        let fetched = match failure(fault, server, path) {
            Some(failure) => Err(failure),
            None => get.await,
        };
        spoil(fault, self.note(protocol, path, load, fetched))
    }

    fn check_address(&self, path: &str) {
        if self.address.is_none() {
            self.ledger.violation("fetch-before-dhcp", path);
        }
    }

    fn note(
        &self,
        protocol: Protocol,
        path: &str,
        load: &str,
        fetched: Result<Vec<u8>, FetchError>,
    ) -> Result<Vec<u8>, FetchError> {
        // Text that LAVA writes for each job (a command line, a script) is kept whole.
        if let Ok(bytes) = &fetched
            && bytes.len() <= TEXT_LIMIT
            && std::str::from_utf8(bytes).is_ok()
        {
            self.ledger.keep([bytes.as_slice()]);
        }
        self.ledger.take(match &fetched {
            Ok(bytes) => Event::file(protocol, path, load, bytes),
            Err(error) => Event::FileFailed { protocol, path: path.to_owned(), error: error.to_string() },
        });
        fetched
    }
}

/// How a fetch fails by a fault; `None` where it is served, if only not as it is.
fn failure(fault: Option<Serve>, server: &str, path: &str) -> Option<FetchError> {
    match fault? {
        Serve::Short | Serve::Wrong => None,
        Serve::Nothing => Some(FetchError::Timeout(server.to_owned())),
        Serve::Missing => Some(FetchError::NotFound(path.to_owned())),
        Serve::Denied => Some(FetchError::Tftp(tftp::error_code::ACCESS, "Access violation".into())),
    }
}

/// What a board gets of what the server sent. The ledger has that as it was sent, and the fault.
fn spoil(fault: Option<Serve>, fetched: Result<Vec<u8>, FetchError>) -> Result<Vec<u8>, FetchError> {
    fetched.map(|mut bytes| match fault {
        Some(Serve::Short) => {
            bytes.truncate(bytes.len() / 2);
            bytes
        }
        Some(Serve::Wrong) => wrong(&bytes),
        _ => bytes,
    })
}

/// The address of `server`: an address or a name, with or without a port.
async fn resolve(server: &str, port: u16) -> Result<SocketAddr, FetchError> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    if let Ok(ip) = server.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    let (host, port) = match server.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, port),
        _ => (server, port),
    };
    tokio::net::lookup_host((host, port))
        .await
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| FetchError::Refused(format!("no such host: {host}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_may_be_an_address_or_a_name_with_or_without_port() {
        for (given, port) in [
            ("127.0.0.1", 69),
            ("127.0.0.1:70", 70),
            ("::1", 69),
            ("[::1]:70", 70),
            ("localhost", 69),
            ("localhost:70", 70),
        ] {
            let address = resolve(given, 69).await.unwrap();
            assert!(address.ip().is_loopback() && address.port() == port, "{given}: {address}");
        }
        assert!(matches!(resolve("no such host", 69).await, Err(FetchError::Refused(_))));
    }
}
