//! ONC RPC over TCP (RFC 5531): calls that may overlap on one connection.
//!
//! Calls are encoded by the crate `nfs3_types`. Of replies it decodes what has a
//! fixed size; what has a length of its own is taken by [`opaque`], which never
//! believes more than there is.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nfs3_types::rpc::{
    RPC_VERSION_2, accept_stat_data, auth_unix, call_body, fragment_header, msg_body, opaque_auth,
    rejected_reply, rpc_msg,
};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::net::FetchError;

/// Ports that a server may want its clients to come from: only root has them.
const PRIVILEGED: std::ops::Range<u16> = 512..1024;
/// Longest reply, in bytes.
const REPLY_LIMIT: usize = 4 << 20;
/// Longest verifier (RFC 5531, section 8.2), in bytes.
const AUTH_LIMIT: usize = 400;
/// How long to wait for a connection, or for a reply, before the server counts as gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A program on a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    pub(super) number: u32,
    pub(super) version: u32,
}

/// A connection to a server.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    server: SocketAddr,
    xid: u32,
    credential: opaque_auth<'static>,
    out: Vec<u8>,
}

impl Connection {
    /// Connects, from a privileged port if this process may have one.
    pub(super) async fn open(server: SocketAddr) -> Result<Self, FetchError> {
        let stream = tokio::time::timeout(PATIENCE, connect(server))
            .await
            .map_err(|_| FetchError::Timeout(server.to_string()))?
            .map_err(|error| FetchError::Refused(format!("{server}: {error}")))?;
        // Calls are small, and each is waited for.
        let _ = stream.set_nodelay(true);
        // RFC 5531, appendix A: root of a machine.
        let root = auth_unix { machinename: Opaque::borrowed(b"ghost"), ..auth_unix::default() };
        let credential = opaque_auth::auth_unix(&root);
        let stream = BufReader::with_capacity(128 << 10, stream);
        Ok(Self { stream, server, xid: std::process::id(), credential, out: Vec::new() })
    }

    /// Queues a call, and returns its number.
    pub(super) fn call(
        &mut self,
        program: Program,
        procedure: u32,
        arguments: &impl Pack,
    ) -> Result<u32, FetchError> {
        self.xid = self.xid.wrapping_add(1);
        let body = call_body {
            rpcvers: RPC_VERSION_2,
            prog: program.number,
            vers: program.version,
            proc: procedure,
            cred: self.credential.borrow(),
            verf: opaque_auth::default(),
        };
        let message = rpc_msg { xid: self.xid, body: msg_body::CALL(body) };
        let size = message.packed_size() + arguments.packed_size();
        let size = u32::try_from(size).map_err(|_| FetchError::Bad("a call is too long".into()))?;
        fragment_header::new(size, true)
            .pack(&mut self.out)
            .and_then(|_| message.pack(&mut self.out))
            .and_then(|_| arguments.pack(&mut self.out))
            .map_err(|error| FetchError::Bad(error.to_string()))?;
        Ok(self.xid)
    }

    /// Sends the queued calls, and waits for the next reply, to whichever call.
    /// Returns that call's number, and its results.
    pub(super) async fn reply(&mut self) -> Result<(u32, Vec<u8>), FetchError> {
        let server = self.server.to_string();
        let record = tokio::time::timeout(PATIENCE, async {
            self.stream.get_mut().write_all(&self.out).await?;
            self.out.clear();
            self.record().await
        });
        let record = record
            .await
            .map_err(|_| FetchError::Timeout(server.clone()))?
            .map_err(|error| FetchError::Bad(format!("{server}: {error}")))?;
        let mut input = record.as_slice();
        let xid = reply_header(&mut input)?;
        let results = input.len();
        let mut record = record;
        record.drain(..record.len() - results);
        Ok((xid, record))
    }

    /// Calls, and waits for the reply.
    pub(super) async fn ask(
        &mut self,
        program: Program,
        procedure: u32,
        arguments: &impl Pack,
    ) -> Result<Vec<u8>, FetchError> {
        let asked = self.call(program, procedure, arguments)?;
        let (answered, results) = self.reply().await?;
        if answered == asked { Ok(results) } else { Err(bad("a reply to no call")) }
    }

    /// A record, from all its fragments (RFC 5531, section 11).
    async fn record(&mut self) -> io::Result<Vec<u8>> {
        let mut record = Vec::new();
        loop {
            let header = fragment_header { header: self.stream.read_u32().await? };
            let size = header.fragment_length() as usize;
            let start = record.len();
            if start + size > REPLY_LIMIT {
                return Err(io::Error::new(ErrorKind::InvalidData, "a reply is too long"));
            }
            record.resize(start + size, 0);
            self.stream.read_exact(&mut record[start..]).await?;
            if header.eof() {
                return Ok(record);
            }
        }
    }
}

/// Connects from a privileged port, or from any other if none is free.
async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    /// Where the next connection starts to look: TCP keeps a port that was in use for a while.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in PRIVILEGED {
        let port = PRIVILEGED.end - 1 - NEXT.fetch_add(1, Ordering::Relaxed) % PRIVILEGED.len() as u16;
        let (socket, any) = match server {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        };
        socket.set_reuseaddr(true)?;
        match socket.bind(any) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            bound => bound?,
        }
        match socket.connect(server).await {
            // The last connection of this port to this server is not forgotten yet.
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {}
            connected => return connected,
        }
    }
    TcpStream::connect(server).await
}

/// Takes the header of a reply; what is left of `input` are the results.
fn reply_header(input: &mut &[u8]) -> Result<u32, FetchError> {
    let xid = take::<u32>(input)?;
    match (take::<u32>(input)?, take::<u32>(input)?) {
        // REPLY, MSG_ACCEPTED
        (1, 0) => {
            let _flavor = take::<u32>(input)?;
            opaque(input, AUTH_LIMIT)?;
            match take::<accept_stat_data>(input)? {
                accept_stat_data::SUCCESS => Ok(xid),
                other => Err(FetchError::Refused(format!("{other:?}"))),
            }
        }
        // REPLY, MSG_DENIED
        (1, 1) => Err(FetchError::Refused(format!("{:?}", take::<rejected_reply>(input)?))),
        _ => Err(bad("no reply")),
    }
}

/// Reads any bytes as a reply and what may be in it.
pub(super) fn fuzz(mut bytes: &[u8]) {
    if reply_header(&mut bytes).is_ok() {
        while opaque(&mut bytes, REPLY_LIMIT).is_ok_and(|found| !found.is_empty()) {}
    }
}

/// Takes a value of fixed size.
pub(super) fn take<T: Unpack>(input: &mut &[u8]) -> Result<T, FetchError> {
    T::unpack(input).map(|(value, _)| value).map_err(|error| FetchError::Bad(error.to_string()))
}

/// Takes bytes with their length before them and padding behind (RFC 4506, section 4.10).
pub(super) fn opaque<'a>(input: &mut &'a [u8], limit: usize) -> Result<&'a [u8], FetchError> {
    let size = take::<u32>(input)? as usize;
    if size > limit {
        return Err(bad("longer than the protocol allows"));
    }
    let (bytes, rest) = input.split_at_checked(size).ok_or_else(|| bad("a reply is cut short"))?;
    *input = rest.get(size.next_multiple_of(4) - size..).ok_or_else(|| bad("a reply is cut short"))?;
    Ok(bytes)
}

pub(super) fn bad(what: &str) -> FetchError {
    FetchError::Bad(what.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_taken_off_the_results() {
        let words: [u32; 7] = [7, 1, 0, 0, 0, 0, 42];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut input = bytes.as_slice();
        assert_eq!(reply_header(&mut input), Ok(7));
        assert_eq!(input, 42_u32.to_be_bytes());
    }

    #[test]
    fn a_refusal_is_told() {
        for words in [[7, 1, 1, 1, 5, 0], [7, 1, 0, 0, 0, 1]] {
            let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
            assert!(matches!(reply_header(&mut bytes.as_slice()), Err(FetchError::Refused(_))));
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_no_header_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = reply_header(&mut bytes.as_slice());
        }

        #[test]
        fn bytes_come_off_with_their_padding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut packed = Vec::new();
            Opaque::borrowed(&bytes).pack(&mut packed).unwrap();
            packed.push(9);
            let mut input = packed.as_slice();
            prop_assert_eq!(opaque(&mut input, 64).unwrap(), bytes.as_slice());
            prop_assert_eq!(input, [9]);
        }

        #[test]
        fn a_length_is_never_believed(size: u32, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&size.to_be_bytes()[..], &rest].concat();
            let _ = opaque(&mut bytes.as_slice(), usize::MAX >> 1);
        }
    }
}
