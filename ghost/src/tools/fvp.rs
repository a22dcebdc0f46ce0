//! `FVP_Base_RevC-2xAEMvA`: a Fast Model in a container, which is started with what is in its memory, and whose serial ports are
//! telnet ports.
//!
//! It is the power of the board whose container it runs in, and serves that board's console on its first port; on the others
//! nothing is ever said. Options and ports are those of Arm's Fixed Virtual Platforms Reference Guide (100966); what it says of a wrong
//! call was not held against the real one, which is not free to pass on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::{fs, io, thread};

use super::{Called, Tool};
use crate::control::{self, Request};
use crate::engine;
use crate::firmware::fvp;

/// The tool.
pub const TOOL: Tool = Tool { names: &["FVP_Base_RevC-2xAEMvA"], run };

/// LAVA looks for its first words at the beginning (`CheckFVPVersionAction` in `lava_dispatcher/actions/boot/fvp.py`).
const VERSION: &str =
    "Fast Models [11.24.11 (Nov  6 2023)]\nCopyright 2000-2023 ARM Limited.\nAll Rights Reserved.\n\n";

/// The first port of a terminal's that is tried.
const FIRST_PORT: u16 = 5000;
/// How many terminals there are.
const TERMINALS: u16 = 4;

fn run(called: Called) -> Result<u8, String> {
    let Called { name, args, socket, out, err, .. } = called;
    let parsed = fvp::parse(name, args);
    if matches!(&parsed, Ok(line) if line.version) {
        let _ = write!(out, "{VERSION}");
        return Ok(0);
    }
    let failed = |error: io::Error| format!("{name}: {error}");
    let board = fs::read_to_string(engine::MARK).map_err(|error| {
        format!("{name} is played in a container of the ghosts' only: {}: {error}", engine::MARK)
    })?;
    let cwd = std::env::current_dir().map_err(failed)?;
    let checked = parsed.and_then(|line| line.check(name, Path::new("/")));
    // The board's ledger is to know of a wrong call, too.
    let telnet = checked.is_ok();
    let request = Request::Attach { board, tool: name.to_owned(), args: args.to_vec(), cwd, telnet };
    let mut far = match control::ask(socket, &request) {
        Ok(far) => far,
        Err(error) => return control::exit_by_fault(error).map_err(failed),
    };
    if let Err(why) = checked {
        let _ = writeln!(err, "{why}");
        let _ = io::copy(&mut far, &mut io::sink());
        return Ok(1);
    }
    serve(far, FIRST_PORT, out).map_err(failed)?;
    let _ = writeln!(out, "\nInfo: /OSCI/SystemC: Simulation stopped by user.");
    Ok(0)
}

/// Who is connected to a terminal.
type Connected = Arc<(Mutex<Option<TcpStream>>, Condvar)>;

/// Opens the terminals, and makes the first one that of `far` until that ends.
fn serve(mut far: UnixStream, first: u16, out: &mut dyn Write) -> io::Result<()> {
    let mut port = first;
    let connected = Connected::default();
    for terminal in 0..TERMINALS {
        let listener = loop {
            // As the model does where a port is taken.
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < u16::MAX => port += 1,
                bound => break bound?,
            }
        };
        writeln!(out, "terminal_{terminal}: Listening for serial connection on port {port}")?;
        out.flush()?;
        // Both end with the process.
        match terminal {
            0 => {
                let (far, connected) = (far.try_clone()?, Arc::clone(&connected));
                thread::spawn(move || type_in(&listener, far, &connected));
            }
            _ => {
                thread::spawn(move || {
                    for mut stream in listener.incoming().flatten() {
                        let _ = io::copy(&mut stream, &mut io::sink());
                    }
                });
            }
        }
    }
    let mut buffer = [0; 4096];
    loop {
        let size = match far.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (current, changed) = &*connected;
        let guard = current.lock().unwrap_or_else(PoisonError::into_inner);
        // What is printed waits for somebody to read it.
        let mut guard =
            changed.wait_while(guard, |current| current.is_none()).unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = guard.as_mut() {
            let _ = stream.write_all(buffer.get(..size).unwrap_or_default());
        }
    }
}

/// Passes on what is typed by those who connect, one after the other.
fn type_in(listener: &TcpListener, mut far: UnixStream, connected: &Connected) {
    let (current, changed) = &**connected;
    let set = |stream| {
        *current.lock().unwrap_or_else(PoisonError::into_inner) = stream;
        changed.notify_all();
    };
    for mut stream in listener.incoming().flatten() {
        set(stream.try_clone().ok());
        let _ = io::copy(&mut stream, &mut far);
        set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;

    #[test]
    fn lava_finds_the_version_at_the_beginning() {
        assert!(VERSION.starts_with("Fast Models ["));
    }

    #[test]
    fn the_first_terminal_is_the_boards_and_loses_nothing_that_came_before_it_was_open() {
        let (far, mut board) = UnixStream::pair().unwrap();
        let (said, mut says) = UnixStream::pair().unwrap();
        let model = thread::spawn(move || serve(far, 1024, &mut says).unwrap());
        board.write_all(b"NOTICE").unwrap();
        let mut lines = io::BufReader::new(said).lines();
        let first = lines.next().unwrap().unwrap();
        let port = first.strip_prefix("terminal_0: Listening for serial connection on port ").unwrap();
        let mut terminal = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
        let mut heard = [0; 6];
        terminal.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"NOTICE");
        terminal.write_all(b"ls").unwrap();
        let mut typed = [0; 2];
        board.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"ls");
        assert!(
            (1..TERMINALS).all(|n| lines.next().unwrap().unwrap().starts_with(&format!("terminal_{n}: ")))
        );
        board.shutdown(std::net::Shutdown::Both).unwrap();
        model.join().unwrap();
    }
}
