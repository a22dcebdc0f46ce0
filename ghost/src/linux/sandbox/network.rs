//! A sandbox's network: the loopback interface, and on it one server.
//!
//! The network namespace has no way out. Where a board is to reach a server, its address is one
//! of the loopback interface's in there, a socket listens on it, and the daemon is handed that
//! socket (`SCM_RIGHTS`, unix(7)) and answers for the server. So nothing but that server can be
//! reached, it takes no privilege of the container's, and every byte passes the daemon.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socket};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{self, ForkResult};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::rights;

/// Goes into a network whose loopback interface is up, in a process of one thread that may not set up its own: that of a container,
/// whose root is the worker's, and that has not the worker's `CAP_NET_ADMIN`. The network belongs to a user namespace below,
/// in which a child has all rights.
pub(super) fn enter_own() -> nix::Result<()> {
    let (ready, told) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (done, entered) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, says who calls.
    match unsafe { unistd::fork() }? {
        ForkResult::Child => {
            drop(entered);
            if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).is_ok() {
                set_loopback_up();
                let _ = unistd::write(&told, &[0]);
                // Until the parent is in there, or gone.
                let _ = unistd::read(&done, &mut [0]);
            }
            // SAFETY: what is to be cleaned up is the parent's.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(told);
            let is_ready = matches!(unistd::read(&ready, &mut [0]), Ok(1));
            let came = match is_ready {
                true => open(
                    format!("/proc/{child}/ns/net").as_str(),
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .and_then(|network| setns(network, CloneFlags::CLONE_NEWNET)),
                false => Err(Errno::EPERM),
            };
            drop(entered);
            let _ = waitpid(child, None);
            came
        }
    }
}

fn set_loopback_up() {
    set("lo", libc::SIOCSIFFLAGS, |request| {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    });
}

/// Sets the network up from inside, as far as this process may, and hands the socket that
/// listens in the server's place to the daemon at the other end of `daemon`; or the reason
/// why there is none.
pub(super) fn set_up(server: Option<SocketAddrV4>, daemon: BorrowedFd<'_>) {
    set_loopback_up();
    let Some(server) = server else { return };
    set("lo:0", libc::SIOCSIFADDR, |request| request.ifr_ifru.ifru_addr = address(*server.ip()));
    // That address and no other of its network.
    let host = Ipv4Addr::BROADCAST;
    set("lo:0", libc::SIOCSIFNETMASK, |request| request.ifr_ifru.ifru_netmask = address(host));
    // Whether that went well shows here.
    let listener = TcpListener::bind(server);
    match &listener {
        Ok(listener) => rights::send(daemon, "listening", Some(listener.as_fd())),
        Err(error) => rights::send(daemon, &error.to_string(), None),
    }
}

/// Changes one thing of an interface (netdevice(7)). Errors show where the interface is used.
fn set(interface: &str, what: libc::Ioctl, fill: impl FnOnce(&mut libc::ifreq)) {
    let Ok(socket) = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None) else {
        return;
    };
    // SAFETY: an `ifreq` of zeros is one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    fill(&mut request);
    // SAFETY: these ioctls only read the request.
    unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw const request) };
}

fn address(ip: Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain bytes of the same size, and the family says which it is (ip(7)).
    unsafe { std::mem::transmute(address) }
}

/// Waits for the socket that the sandbox listens on.
///
/// # Errors
/// When the sandbox has no network, with its reason, or when it has ended.
pub(super) async fn listener(sandbox: &UnixStream) -> io::Result<tokio::net::TcpListener> {
    let fd = sandbox
        .async_io(Interest::READABLE, || rights::receive(sandbox.as_fd(), MsgFlags::MSG_DONTWAIT))
        .await?;
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
