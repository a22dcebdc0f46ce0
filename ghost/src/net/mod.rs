//! The board's network interface, and the protocols it speaks.
//!
//! All clients live in user space, in the daemon: no kernel module is needed,
//! and every byte fetched is hashed before the board may use it.

use std::net::{IpAddr, SocketAddr};

use meta_lava_formats::tree::Tree;

use crate::ledger::{Event, Ledger, Protocol};

pub mod http;
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
}

impl Net {
    /// An interface without address; `lease` is what it will get.
    #[must_use]
    pub fn new(lease: Lease, ledger: Ledger) -> Self {
        Self { address: None, lease, ledger }
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

    /// Asks the lab's DHCP server for an address.
    pub fn dhcp(&mut self) -> Lease {
        self.ledger.take(Event::Network { method: "dhcp".into() });
        self.address = Some(self.lease.address);
        self.lease
    }

    /// Fetches a file by TFTP. `load` is where the firmware puts it, for the ledger.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn tftp(&self, server: &str, path: &str, load: &str) -> Result<Vec<u8>, FetchError> {
        self.check_address(path);
        let fetched = tftp::get(
            server,
            path,
            &tftp::Options { port: self.lease.tftp_port, ..tftp::Options::default() },
        )
        .await;
        self.note(Protocol::Tftp, path, load, fetched)
    }

    /// Fetches a file by HTTP.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn http(&self, url: &str, load: &str) -> Result<Vec<u8>, FetchError> {
        self.check_address(url);
        let fetched = http::get(url).await;
        self.note(Protocol::Http, url, load, fetched)
    }

    /// Fetches a whole exported directory by NFSv3.
    ///
    /// # Errors
    /// See [`FetchError`]; the ledger has it too.
    pub async fn nfs_tree(&self, server: &str, path: &str) -> Result<Tree, FetchError> {
        self.check_address(path);
        match nfs::read_tree(server, path).await {
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
