//! The command line inside a worker: `ghost daemon`, `ghost power on BOARD`, ...
//! It is also what `meta-lava ghost` does with the same words.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use crate::console::Pace;
use crate::control::{self, Request};
use crate::daemon::{self, Settings};
use crate::ledger::PowerAction;
use crate::linux::sandbox;
use crate::{collect, ssh, tools, trial};

/// The words after `ghost`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play all boards of a lab
    Daemon {
        /// Folder with lab.json and boards/
        #[arg(long, default_value = "/var/lib/ghost")]
        lab: PathBuf,
        /// Folder for ledgers and consoles
        #[arg(long, default_value = "/var/lib/ghost/state")]
        state: PathBuf,
        /// The control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
        /// Address of the server that DHCP names to the boards; the worker's own by default
        #[arg(long, env = "GHOST_SERVER")]
        server: Option<IpAddr>,
        /// Play consoles at this baud rate
        #[arg(long, env = "GHOST_PACE")]
        pace: Option<u32>,
        /// Seed of the jitter of --pace
        #[arg(long, env = "GHOST_SEED", default_value_t = 1)]
        seed: u64,
    },
    /// Switch a board on or off, or reset it
    Power {
        /// What to do
        action: Action,
        /// Name of the board
        board: String,
        /// The daemon's control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
    },
    /// Write a file into a part of a board's storage
    Flash {
        /// Name of the board
        board: String,
        /// Name of the part, such as `kernel`
        part: String,
        /// The file
        file: PathBuf,
        /// The daemon's control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
    },
    /// Plug a board's USB cable into the worker, or pull it
    Usb {
        /// What to do
        action: CableAction,
        /// Name of the board
        board: String,
        /// The daemon's control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
    },
    /// Set the switch that has a board's boot ROM wait for a program
    Switch {
        /// Where to
        position: Position,
        /// Name of the board
        board: String,
        /// The daemon's control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
    },
    /// Replace a board by one that nothing happened to
    Renew {
        /// Name of the board
        board: String,
        /// The daemon's control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
    },
    /// Be the tool NAME, as when called by that name
    Tool {
        /// Name of the tool, such as qemu-system-aarch64
        name: String,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Be the shell of a login on a board that is reached by SSH
    #[command(hide = true)]
    Session {
        /// Name of the board
        #[arg(long, env = ssh::session::BOARD)]
        board: String,
        /// Tell only that files have come
        #[arg(long)]
        received: bool,
    },
    /// Answer each line on standard input, a board's name, with its state; a line
    /// `renew NAME` renews the board first
    Collect {
        /// Folder of ledgers and consoles
        #[arg(long, default_value = "/var/lib/ghost/state")]
        state: PathBuf,
        /// The daemon's control socket
        #[arg(long, default_value = control::SOCKET)]
        socket: PathBuf,
    },
    /// List the kinds of firmware
    Kinds,
    /// Find out whether boards can be played in this container; ends with JSON on standard output
    Trial {
        /// Where LAVA unpacks root file systems
        #[arg(long, default_value_os_t = trial::folder())]
        folder: PathBuf,
        /// Write the JSON to this file instead
        #[arg(long)]
        report: Option<PathBuf>,
        /// Be the one program of the board that it tries
        #[arg(long, hide = true)]
        inside: bool,
    },
}

/// Power actions on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Action {
    /// Switch on.
    On,
    /// Switch off.
    Off,
    /// Off and on again.
    Reset,
}

impl From<Action> for PowerAction {
    fn from(action: Action) -> Self {
        match action {
            Action::On => Self::On,
            Action::Off => Self::Off,
            Action::Reset => Self::Reset,
        }
    }
}

/// What can be done with a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CableAction {
    /// Plug it in.
    Plug,
    /// Pull it.
    Pull,
}

/// Where the switch can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Position {
    /// The boot ROM waits for a program.
    Recovery,
    /// The board boots.
    Normal,
}

/// When `args`, whose first is the name of the call, are those of a sandbox's
/// own process or of a tool that a ghost plays: does that, and returns its exit code.
#[must_use]
pub fn called_as_tool(name: &str, args: &[String]) -> Option<ExitCode> {
    if args.get(1).is_some_and(|first| first == sandbox::ARGUMENT) {
        return Some(sandbox::main());
    }
    if args.get(1).is_some_and(|first| first == sandbox::ENTER) {
        return Some(sandbox::enter_main(args));
    }
    let tool = tools::find(name)?;
    let done = report(tool.call(name, args.get(1..).unwrap_or_default()).map(ExitCode::from));
    control::account(&tools::socket());
    Some(done)
}

/// Does one command.
#[must_use]
pub fn main(command: Command) -> ExitCode {
    // Those that LAVA calls; the others are their own or the harness's.
    let called_by_lava = match &command {
        Command::Power { socket, .. }
        | Command::Flash { socket, .. }
        | Command::Usb { socket, .. }
        | Command::Switch { socket, .. } => Some(socket.clone()),
        Command::Tool { .. } => Some(tools::socket()),
        _ => None,
    };
    let done = report(match command {
        Command::Daemon { lab, state, socket, server, pace, seed } => {
            let server = server.unwrap_or_else(own_address);
            let pace = pace.map(|baud| Pace { baud, seed });
            run_daemon(&Settings { lab, state, socket, server, pace })
        }
        Command::Power { action, board, socket } => {
            asked(control::ask(&socket, &Request::Power { board, action: action.into() }))
        }
        Command::Usb { action, board, socket } => {
            asked(control::ask(&socket, &Request::Cable { board, plugged: action == CableAction::Plug }))
        }
        Command::Switch { position, board, socket } => {
            asked(control::ask(&socket, &Request::Switch { board, recovery: position == Position::Recovery }))
        }
        Command::Renew { board, socket } => control::ask(&socket, &Request::Renew { board })
            .map(|_| ExitCode::SUCCESS)
            .map_err(|error| error.to_string()),
        Command::Flash { board, part, file, socket } => std::path::absolute(&file)
            .map_err(|error| error.to_string())
            .and_then(|file| asked(control::ask(&socket, &Request::Flash { board, part, file }))),
        Command::Tool { name, args } => match tools::find(&name) {
            Some(tool) => tool.call(&name, &args).map(ExitCode::from),
            None => Err(format!("no ghost plays the tool {name:?}")),
        },
        Command::Session { board, received } => {
            let socket = tools::socket();
            let done = if received {
                ssh::session::received(&socket, board).map(|()| 0)
            } else {
                ssh::session::run(&socket, board)
            };
            done.map(ExitCode::from).map_err(|error| error.to_string())
        }
        Command::Collect { state, socket } => {
            collect::serve(&state, &socket, std::io::stdin().lock(), std::io::stdout().lock())
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| error.to_string())
        }
        Command::Kinds => {
            for kind in crate::firmware::KINDS {
                println!("{:14} {}", kind.name, kind.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Trial { inside: true, .. } => trial::inside().map(|()| ExitCode::SUCCESS),
        Command::Trial { folder, report, .. } => try_boards(&folder, report.as_deref()),
    });
    if let Some(socket) = called_by_lava {
        control::account(&socket);
    }
    done
}

/// How a command ends that LAVA calls: a fault of the board's says that itself.
fn asked(answer: std::io::Result<std::os::unix::net::UnixStream>) -> Result<ExitCode, String> {
    let ended = answer.map(|_| 0).or_else(control::exit_by_fault);
    ended.map(ExitCode::from).map_err(|error| error.to_string())
}

/// The address of this host that others reach it by, as its own name says;
/// loopback where the name says nothing.
fn own_address() -> IpAddr {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    (name.as_str(), 0)
        .to_socket_addrs()
        .into_iter()
        .flatten()
        .map(|address| address.ip())
        .find(|address| address.is_ipv4() && !address.is_loopback())
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn report(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("ghost: {error}");
        ExitCode::FAILURE
    })
}

fn try_boards(folder: &Path, to: Option<&Path>) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let findings = runtime.block_on(trial::run(folder));
    let text = serde_json::to_string(&findings).map_err(|error| error.to_string())?;
    match to {
        Some(path) => std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?,
        None => println!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_daemon(settings: &Settings) -> Result<ExitCode, String> {
    // The boards wait most of their time; one thread would do, two keep a long
    // hash of one board from holding up the others.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| error.to_string())?;
        tokio::select! {
            result = daemon::run(settings) => result.map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
            _ = terminate.recv() => Ok(ExitCode::SUCCESS),
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
        }
    })
}
