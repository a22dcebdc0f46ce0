//! File descriptors that go from one process to another (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Longest text that goes with one, in bytes.
const TEXT: usize = 256;

/// Sends `fd`, or where there is none the reason in `text`. `text` is never empty, since an empty message is the end.
/// Where nobody is at the other end any more, this process is about to be killed.
pub(super) fn send(to: BorrowedFd<'_>, text: &str, fd: Option<BorrowedFd<'_>>) {
    let fds: Vec<RawFd> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let text = [IoSlice::new(text.as_bytes())];
    let _ = sendmsg::<()>(to.as_raw_fd(), &text, rights, MsgFlags::MSG_NOSIGNAL, None);
}

/// Receives a file descriptor; `flags` say whether to wait for it.
///
/// # Errors
/// The reason that was sent in its place; the end of the file where the other process has ended.
pub(super) fn receive(from: BorrowedFd<'_>, flags: MsgFlags) -> io::Result<OwnedFd> {
    let mut text = [0; TEXT];
    let mut space = cmsg_space!(RawFd);
    let mut into = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | flags;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut into, Some(&mut space), flags)?;
    let size = message.bytes;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel just made it for this process.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(match size {
        0 => io::ErrorKind::UnexpectedEof.into(),
        _ => io::Error::other(String::from_utf8_lossy(&text[..size]).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_sent_is_a_file_descriptor_or_the_reason_for_none() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut one, other) = UnixStream::pair().unwrap();
        send(near.as_fd(), "here", Some(other.as_fd()));
        drop(other);
        let mut came = std::fs::File::from(receive(far.as_fd(), MsgFlags::empty()).unwrap());
        came.write_all(b"!").unwrap();
        one.read_exact(&mut [0]).unwrap();
        send(near.as_fd(), "no sockets left", None);
        assert_eq!(receive(far.as_fd(), MsgFlags::empty()).unwrap_err().to_string(), "no sockets left");
        drop(near);
        let end = receive(far.as_fd(), MsgFlags::empty()).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
