//! A terminal that somebody holds the other end of, as a serial line's is held by a board.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open as open_file};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

/// Both ends; a read of `master` fails (EIO) once nobody has the terminal open any more.
pub struct Pty {
    pub master: OwnedFd,
    pub terminal: OwnedFd,
    /// Where the terminal is: below `/dev/pts`.
    pub path: String,
}

/// Makes one, with `flags` for its master beside those that it always has.
///
/// # Errors
/// When the system has no more of them.
pub fn open(flags: OFlag) -> io::Result<Pty> {
    let always = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(always | flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname_r(&master)?;
    let terminal = open_file(path.as_str(), always, Mode::empty())?;
    // A serial line has no size, and a shell then breaks lines at 80 columns, in
    // the middle of LAVA's paths: this one is as wide as any of its lines.
    let size = rustix::termios::Winsize { ws_row: 0, ws_col: 4096, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size)?;
    Ok(Pty { master: master.into(), terminal, path })
}
