//! A tool whose standard input and output are a terminal somewhere else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::control::{self, Request};

/// Standard input and output: the descriptors themselves, since std's own handles hold back what has no line end.
pub(crate) fn standard() -> io::Result<(File, File)> {
    Ok((
        File::from(io::stdin().as_fd().try_clone_to_owned()?),
        File::from(io::stdout().as_fd().try_clone_to_owned()?),
    ))
}

/// Makes `input` and `output` the terminal at the other end of `far`, until one of them ends.
pub(super) fn carry(
    mut far: UnixStream,
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
) -> io::Result<()> {
    let mut typed = far.try_clone()?;
    // Ends with the process: a read of a terminal cannot be called off.
    std::thread::spawn(move || {
        let _ = copy(&mut input, &mut typed);
        let _ = typed.shutdown(Shutdown::Both);
    });
    copy(&mut far, &mut output)
}

/// The same with the terminal that the daemon on `socket` is asked for.
pub(super) fn relay(
    socket: &Path,
    request: &Request,
    input: impl Read + Send + 'static,
    output: impl Write,
) -> io::Result<()> {
    carry(control::ask(socket, request)?, input, output)
}

/// Passes on what comes, as it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(size) => to.write_all(buffer.get(..size).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
