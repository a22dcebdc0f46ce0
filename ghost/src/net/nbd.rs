//! A client of network block devices, as `nbd-client` and the kernel's driver are one (`doc/proto.md` of nbd): it reads a whole
//! export.
//!
//! The handshake is the one that every server since 3.10 has (fixed newstyle), with the option that every such server takes
//! (`NBD_OPT_EXPORT_NAME`). No crate is used: those that there are bring a kernel's device or an image's formats with them, and this is
//! six messages.

use std::time::Duration;

use meta_lava_formats::array_at;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{FILE_LIMIT, FetchError, resolve};

/// The port that IANA has for it.
pub const PORT: u16 = 10809;

const HELLO: u64 = 0x4e42_444d_4147_4943; // NBDMAGIC
const OPTION: u64 = 0x4948_4156_454f_5054; // IHAVEOPT
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
const EXPORT_NAME: u32 = 1;
/// Bytes behind an export's size and flags, where nobody asked for none.
const ZEROES: usize = 124;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const DISCONNECT: u16 = 2;

/// Most that is asked for at once, in bytes: what the kernel's driver asks for.
const AT_ONCE: u32 = 128 << 10;

/// Longest wait for each answer.
const WAIT: Duration = Duration::from_secs(20);

/// Reads all of the export that a server has for those who name none.
///
/// # Errors
/// See [`FetchError`].
pub async fn read_export(server: &str) -> Result<Vec<u8>, FetchError> {
    let address = resolve(server, PORT).await?;
    let connecting = tokio::time::timeout(WAIT, TcpStream::connect(address)).await;
    let stream = connecting.map_err(|_| FetchError::Timeout(server.to_owned()))?;
    let stream = stream.map_err(|error| FetchError::Refused(error.to_string()))?;
    let _ = stream.set_nodelay(true);
    read_from(stream, server).await
}

/// The same on a connection.
async fn read_from(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    server: &str,
) -> Result<Vec<u8>, FetchError> {
    let bad = |why: &str| FetchError::Bad(why.to_owned());
    let mut hello = [0; 18];
    receive(&mut stream, &mut hello, server).await?;
    if array_at(&hello, 0) != Some(HELLO.to_be_bytes()) {
        return Err(bad("bad magic, no NBD server"));
    }
    let flags = array_at(&hello, 16).map_or(0, u16::from_be_bytes);
    if array_at(&hello, 8) != Some(OPTION.to_be_bytes()) || flags & FIXED_NEWSTYLE == 0 {
        return Err(bad("the server speaks an old NBD"));
    }
    let no_zeroes = flags & NO_ZEROES;
    let mut ask = u32::from(FIXED_NEWSTYLE | no_zeroes).to_be_bytes().to_vec();
    ask.extend(OPTION.to_be_bytes());
    ask.extend(EXPORT_NAME.to_be_bytes());
    // The length of its name, which is empty.
    ask.extend(0_u32.to_be_bytes());
    send(&mut stream, &ask).await?;
    // One that has no such export ends the connection.
    let mut export = [0; 10 + ZEROES];
    let size = if no_zeroes == 0 { export.len() } else { 10 };
    receive(&mut stream, &mut export[..size], server).await?;
    let size = array_at(&export, 0).map_or(0, u64::from_be_bytes);
    let size = usize::try_from(size).ok().filter(|size| *size <= FILE_LIMIT);
    let size = size.ok_or_else(|| bad("the export is too large"))?;
    let mut bytes = vec![0; size];
    for (number, piece) in bytes.chunks_mut(AT_ONCE as usize).enumerate() {
        let handle = number as u64;
        let length = u32::try_from(piece.len()).unwrap_or(AT_ONCE);
        send(&mut stream, &request(READ, handle, handle * u64::from(AT_ONCE), length)).await?;
        let mut reply = [0; 16];
        receive(&mut stream, &mut reply, server).await?;
        if array_at(&reply, 0) != Some(REPLY.to_be_bytes())
            || array_at(&reply, 8) != Some(handle.to_be_bytes())
        {
            return Err(bad("an answer to nothing that was asked"));
        }
        match array_at(&reply, 4).map_or(0, u32::from_be_bytes) {
            0 => receive(&mut stream, piece, server).await?,
            error => return Err(FetchError::Refused(format!("error {error}"))),
        }
    }
    let _ = send(&mut stream, &request(DISCONNECT, 0, 0, 0)).await;
    Ok(bytes)
}

fn request(what: u16, handle: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST.to_be_bytes().to_vec();
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(what.to_be_bytes());
    bytes.extend(handle.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), FetchError> {
    stream.write_all(bytes).await.map_err(|error| FetchError::Bad(error.to_string()))
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    into: &mut [u8],
    server: &str,
) -> Result<(), FetchError> {
    match tokio::time::timeout(WAIT, stream.read_exact(into)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(FetchError::Bad(error.to_string())),
        Err(_) => Err(FetchError::Timeout(server.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server sends that has `export`, with or without the zeroes; it reads nothing.
    fn server(export: &[u8], flags: u16) -> Vec<u8> {
        let mut bytes = HELLO.to_be_bytes().to_vec();
        bytes.extend(OPTION.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend((export.len() as u64).to_be_bytes());
        bytes.extend(1_u16.to_be_bytes());
        if flags & NO_ZEROES == 0 {
            bytes.extend([0; ZEROES]);
        }
        for (number, piece) in export.chunks(AT_ONCE as usize).enumerate() {
            bytes.extend(REPLY.to_be_bytes());
            bytes.extend(0_u32.to_be_bytes());
            bytes.extend((number as u64).to_be_bytes());
            bytes.extend(piece);
        }
        bytes
    }

    async fn read(said: &[u8]) -> (Result<Vec<u8>, FetchError>, Vec<u8>) {
        let (here, mut there) = tokio::io::duplex(1 << 20);
        let said = said.to_vec();
        let serving = tokio::spawn(async move {
            let _ = there.write_all(&said).await;
            let _ = there.shutdown().await;
            let mut heard = Vec::new();
            let _ = there.read_to_end(&mut heard).await;
            heard
        });
        let read = read_from(here, "server").await;
        (read, serving.await.unwrap())
    }

    #[tokio::test]
    async fn an_export_is_read_in_pieces_and_left() {
        let export: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        for flags in [FIXED_NEWSTYLE, FIXED_NEWSTYLE | NO_ZEROES] {
            let (bytes, heard) = read(&server(&export, flags)).await;
            assert!(bytes.unwrap() == export);
            // The flags, the option, three reads, and the end.
            assert_eq!(heard.len(), 4 + 16 + 4 * 28);
            assert_eq!(heard[..4], u32::from(flags).to_be_bytes());
            assert!(heard.ends_with(&request(DISCONNECT, 0, 0, 0)));
        }
    }

    #[tokio::test]
    async fn who_is_no_server_or_has_no_export_is_told_from_one_that_has() {
        let refused = |said: Vec<u8>| async move { read(&said).await.0.unwrap_err().to_string() };
        let good = server(b"x", FIXED_NEWSTYLE);
        assert!(refused(b"HTTP/1.1 400 Bad Request\r\n".to_vec()).await.contains("no NBD server"));
        assert!(refused(server(b"x", 0)).await.contains("old NBD"));
        assert!(refused(good[..18].to_vec()).await.contains("early eof"));
        let mut error = good.clone();
        error[18 + 134 + 7] = 5;
        assert!(refused(error).await.contains("error 5"));
        let mut large = good;
        large[18] = 1;
        assert!(refused(large).await.contains("too large"));
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_an_export_or_an_error(
            said in prop::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..160,
            byte in any::<u8>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let mut changed = server(b"export", FIXED_NEWSTYLE);
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
            runtime.block_on(async {
                let _ = read(&said).await;
                let _ = read(&changed).await;
            });
        }
    }
}
