//! `qemu-system-*`: starts the board that its `-name` names and is its terminal,
//! until the board switches itself off or standard input ends.

use std::io;

use super::relay::{relay, standard};
use super::{Called, Tool, caller};
use crate::control::{self, Request};
use crate::firmware::qemu::{self, CommandLine};
use crate::terminal::Raw;

/// The tool.
pub const TOOL: Tool = Tool {
    names: &[
        "qemu-system-aarch64",
        "qemu-system-arm",
        "qemu-system-i386",
        "qemu-system-riscv64",
        "qemu-system-x86_64",
    ],
    run,
};

/// LAVA reads the fourth word.
const VERSION: &str = "QEMU emulator version 7.2.11 (Debian 1:7.2+dfsg-7+deb12u6)\n\
    Copyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers\n";

fn run(called: Called) -> Result<u8, String> {
    let (name, args) = (called.name, called.args);
    if args.iter().any(|arg| matches!(arg.trim_start_matches('-'), "version")) {
        let _ = write!(called.out, "{VERSION}");
        return Ok(0);
    }
    let parsed = qemu::parse(args);
    let board = board(&parsed, args).or_else(|| named_in(&caller::own_device()?));
    let board = board
        .ok_or_else(|| "which board is this? Give the device `extra_options: ['-name BOARD']`".to_owned())?;
    let cwd = std::env::current_dir().map_err(|error| format!("{name}: {error}"))?;
    let failed = |error: io::Error| format!("{name}: {error}");
    let (input, output) = standard().map_err(failed)?;
    // As `-nographic` does.
    let _raw = Raw::enter();
    let request = Request::Attach { board, tool: name.to_owned(), args: args.to_vec(), cwd, telnet: false };
    if let Err(error) = relay(called.socket, &request, input, output) {
        return control::exit_by_fault(error).map_err(failed);
    }
    // The board said what is wrong with the command line, if anything is.
    Ok(u8::from(parsed.is_err()))
}

/// The board that a command line is for. A wrong command line has one too: its
/// ledger shall know of it.
fn board(parsed: &Result<CommandLine, String>, args: &[String]) -> Option<String> {
    match parsed {
        Ok(line) => line.name.clone(),
        Err(_) => {
            let at = args.iter().position(|arg| arg.trim_start_matches('-') == "name");
            at.and_then(|at| args.get(at + 1)).and_then(|name| {
                let only = [String::from("-name"), name.clone()];
                qemu::parse(&only).ok()?.name
            })
        }
    }
}

/// The board that the text of a device names in the options that it adds: LAVA's installer leaves these out
/// (`lava_dispatcher/actions/deploy/iso.py`).
fn named_in(device: &str) -> Option<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = device.split("-name ").nth(1)?.split(|c| !is_of_name(c)).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_board_is_known_even_of_a_wrong_command_line() {
        for line in ["-m 512 -name qemu-01", "-frobnicate -name qemu-01,process=x", "--name guest=qemu-01"] {
            let args = words(line);
            assert_eq!(board(&qemu::parse(&args), &args).as_deref(), Some("qemu-01"), "{line}");
        }
    }

    #[test]
    fn without_a_name_it_is_the_one_of_the_device() {
        for line in ["-m 512", "-frobnicate", "-frobnicate -name"] {
            let args = words(line);
            assert_eq!(board(&qemu::parse(&args), &args), None, "{line}");
        }
        let device = "parameters:\n  options: [-m 512]\n  extra: ['-name qemu-01', -s]\n";
        assert_eq!(named_in(device).as_deref(), Some("qemu-01"));
        for other in ["options: [-m 512]", "extra: ['-name ', x]"] {
            assert_eq!(named_in(other), None, "{other}");
        }
    }

    /// A daemon that grants one request, prints `login: `, and ends when it was
    /// answered with a line, or when the other side has gone; returns what it was
    /// asked and what was typed.
    fn daemon(socket: &Path) -> std::thread::JoinHandle<(Request, String)> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let (mut request, mut typed) = (String::new(), String::new());
            lines.read_line(&mut request).unwrap();
            stream.write_all(b"{\"error\":null}\nlogin: ").unwrap();
            lines.read_line(&mut typed).unwrap();
            (serde_json::from_str(&request).unwrap(), typed)
        })
    }

    fn request() -> Request {
        let (board, tool) = ("qemu-01".into(), "qemu".into());
        Request::Attach { board, tool, args: vec![], cwd: "/".into(), telnet: false }
    }

    #[test]
    fn it_is_the_terminal_of_the_board_until_that_is_off() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let daemon = daemon(&socket);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"root\n").unwrap();
        let mut printed = Vec::new();
        relay(&socket, &request(), ours, &mut printed).unwrap();
        assert_eq!(printed, b"login: ");
        assert_eq!(daemon.join().unwrap(), (request(), "root\n".into()));
    }

    #[test]
    fn the_board_goes_off_when_nobody_types_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let daemon = daemon(&socket);
        relay(&socket, &request(), io::empty(), io::sink()).unwrap();
        assert_eq!(daemon.join().unwrap().1, "");
    }

    #[test]
    fn without_a_daemon_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = relay(&dir.path().join("none"), &request(), io::empty(), io::sink()).unwrap_err();
        assert!(error.to_string().contains("no ghost daemon answers"), "{error}");
    }

    #[tokio::test]
    async fn a_real_daemon_plays_the_board_once_and_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("boards")).unwrap();
        let board = "{model: PC, firmware: {kind: qemu}}";
        std::fs::write(dir.path().join("boards/qemu-01.yaml"), board).unwrap();
        let lab = r#"{"boards": [{"name": "qemu-01", "consoles": []}]}"#;
        std::fs::write(dir.path().join("lab.json"), lab).unwrap();
        let socket = dir.path().join("socket");
        let settings = crate::daemon::Settings {
            lab: dir.path().into(),
            state: dir.path().join("state"),
            socket: socket.clone(),
            server: [127, 0, 0, 1].into(),
            pace: None,
        };
        tokio::spawn(async move { crate::daemon::run(&settings).await });
        while UnixStream::connect(&socket).is_err() {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            let socket = socket.clone();
            let printed = tokio::task::spawn_blocking(move || {
                let args = vec!["-frobnicate".to_owned()];
                let tool = "qemu-system-x86_64".to_owned();
                let board = "qemu-01".into();
                let request = Request::Attach { board, tool, args, cwd: "/".into(), telnet: false };
                let (ours, _theirs) = UnixStream::pair().unwrap();
                let mut printed = Vec::new();
                relay(&socket, &request, ours, &mut printed).unwrap();
                String::from_utf8(printed).unwrap()
            })
            .await
            .unwrap();
            assert_eq!(printed, "qemu-system-x86_64: -frobnicate: invalid option\r\n");
        }
    }

    #[test]
    fn lava_finds_the_version_in_the_fourth_word() {
        assert_eq!(VERSION.split_whitespace().nth(3), Some("7.2.11"));
        assert!(super::super::find("qemu-system-aarch64").is_some());
    }
}
