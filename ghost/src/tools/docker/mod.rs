//! `docker`: containers on a worker, with a [`crate::engine`] behind it.
//!
//! Commands, options, messages and exit codes are those of Docker 20.10.24 as Debian 12 has it, tried with the real one. An
//! option that is known and means nothing in a sandbox (`--cpus`, `--privileged`, a network) is taken and changes nothing;
//! commands that LAVA does not call are not played, and say so.
//!
//! A call is noted with the board that LAVA's job is for ([`super::caller`]): a container's name tells of the job only.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use serde::de::DeserializeOwned;

use self::flags::{Flag, NONE, Parsed, Takes, parse};
use super::caller;
use super::relay::{carry, standard};
use super::{Called, Tool};
use crate::control::{self, Request};
use crate::engine::image::Reference;
use crate::engine::{Ask, Begun, Create, Failed, Id, Object, Of, Pulled};
use crate::linux::sandbox::{self, Entered, NotRun};
use crate::terminal::Raw;

mod compose;
pub(super) mod flags;
mod mounts;

/// The tool.
pub const TOOL: Tool = Tool { names: &["docker"], run };

const VERSION: &str = "20.10.24+dfsg1";

use Takes::{Bytes, Decimal, Mount, Number, Switch, Text};

/// Those before the command.
const GLOBAL: &[Flag] = &[
    (NONE, "config", Text),
    ('c', "context", Text),
    ('D', "debug", Switch),
    ('H', "host", Text),
    ('l', "log-level", Text),
    (NONE, "tls", Switch),
    (NONE, "tlscacert", Text),
    (NONE, "tlscert", Text),
    (NONE, "tlskey", Text),
    (NONE, "tlsverify", Switch),
    ('v', "version", Switch),
    (NONE, "help", Switch),
];

/// Those of `docker run`, as its `--help` lists them.
const RUN: &[Flag] = &[
    (NONE, "add-host", Text),
    ('a', "attach", Text),
    (NONE, "blkio-weight", Number),
    (NONE, "blkio-weight-device", Text),
    (NONE, "cap-add", Text),
    (NONE, "cap-drop", Text),
    (NONE, "cgroup-parent", Text),
    (NONE, "cgroupns", Text),
    (NONE, "cidfile", Text),
    (NONE, "cpu-period", Number),
    (NONE, "cpu-quota", Number),
    (NONE, "cpu-rt-period", Number),
    (NONE, "cpu-rt-runtime", Number),
    ('c', "cpu-shares", Number),
    (NONE, "cpus", Decimal),
    (NONE, "cpuset-cpus", Text),
    (NONE, "cpuset-mems", Text),
    ('d', "detach", Switch),
    (NONE, "detach-keys", Text),
    (NONE, "device", Text),
    (NONE, "device-cgroup-rule", Text),
    (NONE, "device-read-bps", Text),
    (NONE, "device-read-iops", Text),
    (NONE, "device-write-bps", Text),
    (NONE, "device-write-iops", Text),
    (NONE, "disable-content-trust", Switch),
    (NONE, "dns", Text),
    (NONE, "dns-option", Text),
    (NONE, "dns-search", Text),
    (NONE, "domainname", Text),
    (NONE, "entrypoint", Text),
    ('e', "env", Text),
    (NONE, "env-file", Text),
    (NONE, "expose", Text),
    (NONE, "gpus", Text),
    (NONE, "group-add", Text),
    (NONE, "health-cmd", Text),
    (NONE, "health-interval", Text),
    (NONE, "health-retries", Number),
    (NONE, "health-start-period", Text),
    (NONE, "health-timeout", Text),
    (NONE, "help", Switch),
    ('h', "hostname", Text),
    (NONE, "init", Switch),
    ('i', "interactive", Switch),
    (NONE, "ip", Text),
    (NONE, "ipc", Text),
    (NONE, "isolation", Text),
    (NONE, "kernel-memory", Bytes),
    ('l', "label", Text),
    (NONE, "label-file", Text),
    (NONE, "link", Text),
    (NONE, "link-local-ip", Text),
    (NONE, "log-driver", Text),
    (NONE, "log-opt", Text),
    (NONE, "mac-address", Text),
    ('m', "memory", Bytes),
    (NONE, "memory-reservation", Bytes),
    (NONE, "memory-swap", Bytes),
    (NONE, "memory-swappiness", Number),
    (NONE, "mount", Mount),
    (NONE, "name", Text),
    (NONE, "network", Text),
    (NONE, "network-alias", Text),
    (NONE, "no-healthcheck", Switch),
    (NONE, "oom-kill-disable", Switch),
    (NONE, "oom-score-adj", Number),
    (NONE, "pid", Text),
    (NONE, "pids-limit", Number),
    (NONE, "platform", Text),
    (NONE, "privileged", Switch),
    ('p', "publish", Text),
    ('P', "publish-all", Switch),
    (NONE, "pull", Text),
    (NONE, "read-only", Switch),
    (NONE, "restart", Text),
    (NONE, "rm", Switch),
    (NONE, "runtime", Text),
    (NONE, "security-opt", Text),
    (NONE, "shm-size", Bytes),
    (NONE, "sig-proxy", Switch),
    (NONE, "stop-signal", Text),
    (NONE, "stop-timeout", Number),
    (NONE, "storage-opt", Text),
    (NONE, "sysctl", Text),
    (NONE, "tmpfs", Text),
    ('t', "tty", Switch),
    (NONE, "ulimit", Text),
    ('u', "user", Text),
    (NONE, "userns", Text),
    (NONE, "uts", Text),
    ('v', "volume", Text),
    (NONE, "volume-driver", Text),
    (NONE, "volumes-from", Text),
    ('w', "workdir", Text),
];

const EXEC: &[Flag] = &[
    ('d', "detach", Switch),
    (NONE, "detach-keys", Text),
    ('e', "env", Text),
    (NONE, "env-file", Text),
    ('i', "interactive", Switch),
    (NONE, "privileged", Switch),
    ('t', "tty", Switch),
    ('u', "user", Text),
    ('w', "workdir", Text),
];

const PULL: &[Flag] = &[
    ('a', "all-tags", Switch),
    (NONE, "disable-content-trust", Switch),
    (NONE, "platform", Text),
    ('q', "quiet", Switch),
];

const STOP: &[Flag] = &[('t', "time", Number)];
const RM: &[Flag] = &[('f', "force", Switch), ('l', "link", Switch), ('v', "volumes", Switch)];
const INSPECT: &[Flag] = &[('f', "format", Text), ('s', "size", Switch), (NONE, "type", Text)];
const INSPECT_IMAGE: &[Flag] = &[('f', "format", Text)];
const VERSION_FLAGS: &[Flag] = &[('f', "format", Text), (NONE, "kubeconfig", Text)];

/// A command.
struct Command {
    /// Its words.
    name: &'static str,
    flags: &'static [Flag],
    /// Whether the first word that is no option ends them.
    only_first: bool,
    /// How many words it takes.
    words: Words,
    /// What its help says: how it is used, and what it does.
    usage: &'static str,
    about: &'static str,
    run: fn(&mut Session, &Parsed) -> Result<u8, Ended>,
}

#[derive(Clone, Copy)]
enum Words {
    None,
    Exactly(usize),
    AtLeast(usize),
}

const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        flags: RUN,
        only_first: true,
        words: Words::AtLeast(1),
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Run a command in a new container",
        run: run_container,
    },
    Command {
        name: "exec",
        flags: EXEC,
        only_first: true,
        words: Words::AtLeast(2),
        usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
        about: "Run a command in a running container",
        run: exec,
    },
    Command {
        name: "pull",
        flags: PULL,
        only_first: false,
        words: Words::Exactly(1),
        usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
        about: "Pull an image or a repository from a registry",
        run: pull,
    },
    Command {
        name: "stop",
        flags: STOP,
        only_first: false,
        words: Words::AtLeast(1),
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Stop one or more running containers",
        run: stop,
    },
    Command {
        name: "rm",
        flags: RM,
        only_first: false,
        words: Words::AtLeast(1),
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Remove one or more containers",
        run: remove,
    },
    Command {
        name: "inspect",
        flags: INSPECT,
        only_first: false,
        words: Words::AtLeast(1),
        usage: "[OPTIONS] NAME|ID [NAME|ID...]",
        about: "Return low-level information on Docker objects",
        run: |session, parsed| {
            let of = match parsed.value("type") {
                Some("image") => Of::Image,
                Some("container") => Of::Container,
                _ => Of::Any,
            };
            inspect(session, parsed, of)
        },
    },
    Command {
        name: "image inspect",
        flags: INSPECT_IMAGE,
        only_first: false,
        words: Words::AtLeast(1),
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Display detailed information on one or more images",
        run: |session, parsed| inspect(session, parsed, Of::Image),
    },
    Command {
        name: "version",
        flags: VERSION_FLAGS,
        only_first: false,
        words: Words::None,
        usage: "[OPTIONS]",
        about: "Show the Docker version information",
        run: version,
    },
];

/// Commands of Docker's that are not played.
const NOT_PLAYED: &[&str] = &[
    "attach",
    "build",
    "builder",
    "commit",
    "config",
    "container",
    "context",
    "cp",
    "create",
    "diff",
    "events",
    "export",
    "history",
    "image",
    "images",
    "import",
    "info",
    "kill",
    "load",
    "login",
    "logout",
    "logs",
    "manifest",
    "network",
    "node",
    "pause",
    "plugin",
    "port",
    "ps",
    "push",
    "rename",
    "restart",
    "rmi",
    "save",
    "search",
    "secret",
    "service",
    "stack",
    "start",
    "stats",
    "swarm",
    "system",
    "tag",
    "top",
    "trust",
    "unpause",
    "update",
    "volume",
    "wait",
];

/// What ends a command early: what stands on standard error, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended(String, u8);

/// A command at work.
struct Session<'a> {
    socket: &'a Path,
    board: String,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Session<'_> {
    /// Asks the board's engine for something.
    fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Failed> {
        let request = Request::Engine { board: self.board.clone(), ask };
        let answer: Result<Result<T, Failed>, _> = control::get(self.socket, &request);
        // `dockerd` has gone.
        answer.map_err(|error| Failed { says: error.to_string(), code: 125, hint: false })?
    }

    fn say(&mut self, text: &str) {
        // Nobody may be reading any more.
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}

fn run(called: Called) -> Result<u8, String> {
    let board = caller::board(&called).map_err(|error| error.to_string())?;
    let Called { args, socket, out, err, .. } = called;
    let ended = match command(args) {
        Err(ended) => Err(ended),
        Ok(Line::Text(text)) => {
            let _ = writeln!(out, "{text}");
            return Ok(0);
        }
        // Whoever is named there, nobody answers.
        Ok(Line::Command { name, host: Some(host), .. }) => {
            // It ends the line of what could not be filled in (`prettyPrintVersion` in cli/command/system/version.go).
            if name == "version" {
                let _ = writeln!(out);
            }
            Err(no_engine(name, &host))
        }
        Ok(Line::Command { run, .. }) => {
            let Some(board) = board else {
                return Err("docker was called by no job of LAVA's: there is no engine for it".into());
            };
            run(&mut Session { socket, board, out, err: &mut *err })
        }
    };
    Ok(ended.unwrap_or_else(|Ended(says, code)| {
        let _ = writeln!(err, "{says}");
        code
    }))
}

/// What a command of Docker's does.
type Deed = Box<dyn FnOnce(&mut Session) -> Result<u8, Ended>>;

/// What a command line is.
enum Line {
    /// Only to print something.
    Text(String),
    Command {
        name: &'static str,
        run: Deed,
        /// The engine that it is to go to, where that is another than the worker's.
        host: Option<String>,
    },
}

fn command(args: &[String]) -> Result<Line, Ended> {
    let see = |why: String, of: &str| {
        let of = if of.is_empty() { String::new() } else { format!(" {of}") };
        Ended(format!("{why}\nSee 'docker{of} --help'."), 125)
    };
    let global = parse(args, GLOBAL, true).map_err(|why| see(why, ""))?;
    if global.has("version") {
        return Ok(Line::Text(format!("Docker version {VERSION}, build 297e128")));
    }
    let mut words = global.words.as_slice();
    let Some(first) = words.first() else {
        return Ok(Line::Text("\nUsage:  docker [OPTIONS] COMMAND".into()));
    };
    // An empty name is none.
    let host = global.value("host").filter(|host| !host.is_empty() && !host.starts_with("unix:"));
    let host = host.map(str::to_owned);
    if first == "compose" {
        let args = words[1..].to_vec();
        return Ok(Line::Command {
            name: "compose",
            run: Box::new(move |session| compose::run(session, &args)),
            host,
        });
    }
    let two = words.get(1).map(|second| format!("{first} {second}")).unwrap_or_default();
    let command = COMMANDS.iter().find(|command| command.name == two || command.name == first);
    let Some(command) = command else {
        return Err(if NOT_PLAYED.contains(&first.as_str()) {
            Ended(format!("ghost: docker {first} is not played"), 1)
        } else {
            Ended(format!("docker: '{first}' is not a docker command.\nSee 'docker --help'"), 1)
        });
    };
    words = &words[command.name.split(' ').count()..];
    let parsed = parse(words, command.flags, command.only_first).map_err(|why| see(why, command.name))?;
    let found = parsed.words.len();
    let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
    let wants = match command.words {
        Words::None if found > 0 => Some("accepts no arguments".to_owned()),
        Words::Exactly(count) if found != count => {
            Some(format!("requires exactly {count} {}", plural(count)))
        }
        Words::AtLeast(count) if found < count => {
            Some(format!("requires at least {count} {}", plural(count)))
        }
        _ => None,
    };
    if let Some(wants) = wants {
        let Command { name, usage, about, .. } = command;
        return Err(Ended(
            format!(
                "\"docker {name}\" {wants}.\nSee 'docker {name} --help'.\n\nUsage:  docker {name} {usage}\n\n{about}"
            ),
            1,
        ));
    }
    Ok(Line::Command {
        name: command.name,
        run: Box::new(move |session| (command.run)(session, &parsed)),
        host,
    })
}

fn no_engine(command: &str, host: &str) -> Ended {
    let why = format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?");
    match command {
        "run" => Ended(format!("docker: {why}.\nSee 'docker run --help'."), 125),
        _ => Ended(why, 1),
    }
}

/// What the engine says that could not do something, for all commands but `run`.
fn of_daemon(failed: Failed) -> Ended {
    Ended(format!("Error response from daemon: {}", failed.says), 1)
}

/// The same, where the client finds that there is no such thing.
fn of_client(failed: Failed) -> Ended {
    match failed.says.starts_with("No such") {
        true => Ended(format!("Error: {}", failed.says), 1),
        false => of_daemon(failed),
    }
}

/// The same for `docker run`.
fn of_run(failed: Failed) -> Ended {
    let hint = if failed.hint { "\nSee 'docker run --help'." } else { "" };
    Ended(format!("docker: Error response from daemon: {}.{hint}", failed.says), failed.code)
}

fn version(session: &mut Session, parsed: &Parsed) -> Result<u8, Ended> {
    let properties = [("Client.Version", VERSION), ("Server.Version", VERSION)];
    let object =
        Object { properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into() };
    let format =
        parsed.value("format").ok_or_else(|| Ended("ghost: only docker version -f is played".into(), 1))?;
    session.say(&format_with(format, &object)?);
    Ok(0)
}

fn pull(session: &mut Session, parsed: &Parsed) -> Result<u8, Ended> {
    let name = parsed.words.first().map_or("", String::as_str);
    let reference = Reference::parse(name).map_err(|error| Ended(error.to_string(), 1))?;
    let quiet = parsed.has("quiet");
    if !quiet && !reference.is_tagged {
        session.say("Using default tag: latest");
    }
    let said = fetch(session, &reference).map_err(of_daemon)?;
    for line in said.iter().filter(|_| !quiet) {
        session.say(line);
    }
    session.say(&reference.to_string());
    Ok(0)
}

/// Fetches an image, and returns the lines that tell of it.
fn fetch(session: &Session, reference: &Reference) -> Result<Vec<String>, Failed> {
    let pulled: Pulled = session.ask(Ask::Pull { image: reference.to_string() })?;
    let mut lines = vec![format!("{}: Pulling from {}", reference.tag, reference.path)];
    lines.extend(layer_steps(&pulled).map(|(layer, step)| format!("{layer}: {step}")));
    lines.push(format!("Digest: sha256:{}", pulled.digest));
    lines.push(match pulled.layer {
        Some(_) => format!("Status: Downloaded newer image for {}", pulled.name),
        None => format!("Status: Image is up to date for {}", pulled.name),
    });
    Ok(lines)
}

/// What is told of the layer that was fetched, if one was: its short name, and a step.
fn layer_steps(pulled: &Pulled) -> impl Iterator<Item = (&str, &'static str)> {
    const STEPS: [&str; 4] = ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"];
    let layer = pulled.layer.as_deref().map(|layer| layer.get(..12).unwrap_or(layer));
    layer.into_iter().flat_map(|layer| STEPS.map(|step| (layer, step)))
}

fn inspect(session: &mut Session, parsed: &Parsed, of: Of) -> Result<u8, Ended> {
    let Some(format) = parsed.value("format") else {
        return Err(Ended("ghost: only docker inspect --format is played".into(), 1));
    };
    let mut missing = Vec::new();
    for name in &parsed.words {
        match session.ask::<Object>(Ask::Inspect { name: name.clone(), of }) {
            Ok(object) => {
                let text = format_with(format, &object).inspect_err(|_| session.say(""))?;
                session.say(&text);
            }
            Err(failed) => missing.push(of_client(failed).0),
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    if missing.len() == parsed.words.len() {
        session.say("");
    }
    Err(Ended(missing.join("\n"), 1))
}

/// A template of Go's, as far as it names properties.
fn format_with(template: &str, object: &Object) -> Result<String, Ended> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((key, behind)) = behind.split_once("}}") else {
            return Err(Ended("template parsing error: template: :1: unclosed action".into(), 64));
        };
        let key = key.trim();
        let value = key.strip_prefix('.').and_then(|key| object.properties.get(key));
        let Some(value) = value else {
            let name = key.trim_start_matches('.');
            return Err(Ended(
                format!(
                    "template parsing error: template: :1:2: executing \"\" at <{key}>: map has no entry for key \"{name}\""
                ),
                1,
            ));
        };
        text.push_str(value);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

fn stop(session: &mut Session, parsed: &Parsed) -> Result<u8, Ended> {
    each(session, &parsed.words, of_daemon, |session, name| session.ask(Ask::Stop { name: name.to_owned() }))
}

fn remove(session: &mut Session, parsed: &Parsed) -> Result<u8, Ended> {
    let force = parsed.has("force");
    let done = each(session, &parsed.words, of_client, |session, name| {
        session.ask(Ask::Remove { name: name.to_owned(), force })
    });
    match done {
        // What is to be gone, and is not there, is gone.
        Err(Ended(says, _)) if force => Err(Ended(says, 0)),
        done => done,
    }
}

/// Does something to each container, and prints its name.
fn each(
    session: &mut Session,
    names: &[String],
    wrong: fn(Failed) -> Ended,
    deed: impl Fn(&Session, &str) -> Result<(), Failed>,
) -> Result<u8, Ended> {
    let mut failed = Vec::new();
    for name in names {
        match deed(session, name) {
            Ok(()) => session.say(name),
            Err(why) => failed.push(wrong(why).0),
        }
    }
    if failed.is_empty() { Ok(0) } else { Err(Ended(failed.join("\n"), 1)) }
}

fn exec(session: &mut Session, parsed: &Parsed) -> Result<u8, Ended> {
    if parsed.has("detach") {
        return Err(Ended("ghost: docker exec with --detach is not played".into(), 1));
    }
    needs_a_terminal(parsed)?;
    let [name, words @ ..] = parsed.words.as_slice() else { return Ok(1) };
    let begun: Begun = session.ask(Ask::Enter { name: name.clone() }).map_err(of_client)?;
    let mut program = begun.program;
    program.words = words.to_vec();
    if parsed.has("tty") {
        program.environment.push("TERM=xterm".into());
    }
    program.environment.extend(environment(parsed));
    if let Some(folder) = parsed.value("workdir") {
        folder.clone_into(&mut program.folder);
    }
    match sandbox::enter(begun.pid, &program, parsed.has("interactive")) {
        Ok(Entered::Ended(code)) => Ok(code),
        Ok(Entered::NotRun(NotRun { why, .. })) => Err(Ended(
            format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {why}: unknown"
            ),
            126,
        )),
        Err(error) => Err(Ended(format!("ghost: the container can't be entered: {error}"), 1)),
    }
}

/// Who types into a terminal has one. A program that enters a container gets that one itself, and no other in the container.
fn needs_a_terminal(parsed: &Parsed) -> Result<(), Ended> {
    match parsed.has("tty") && parsed.has("interactive") && !io::stdin().is_terminal() {
        true => Err(Ended("the input device is not a TTY".into(), 1)),
        false => Ok(()),
    }
}

/// The variables of `--env`; one without a value is the caller's own.
fn environment(parsed: &Parsed) -> Vec<String> {
    let whole = |variable: &str| match variable.contains('=') {
        true => Some(variable.to_owned()),
        false => std::env::var(variable).ok().map(|value| format!("{variable}={value}")),
    };
    parsed.all("env").filter_map(whole).collect()
}

fn run_container(session: &mut Session, parsed: &Parsed) -> Result<u8, Ended> {
    let see = |why: String| Ended(format!("docker: {why}.\nSee 'docker run --help'."), 125);
    let (detach, terminal) = (parsed.has("detach"), parsed.has("tty"));
    if !detach {
        needs_a_terminal(parsed)?;
    }
    let [image, words @ ..] = parsed.words.as_slice() else { return Ok(1) };
    let reference = Reference::parse(image).map_err(|error| see(error.to_string()))?;
    for capability in parsed.all("cap-add").filter(|name| *name != "ALL") {
        let name = capability.to_uppercase();
        let name = if name.starts_with("CAP_") { name } else { format!("CAP_{name}") };
        if name.parse::<caps::Capability>().is_err() {
            return Err(see(format!(
                "Error response from daemon: invalid CapAdd: unknown capability: \"{name}\""
            )));
        }
    }
    let mut mounts = Vec::new();
    for mount in parsed.all("mount") {
        mounts.push(mounts::parse(mount).map_err(see)?);
    }
    for volume in parsed.all("volume") {
        mounts.push(mounts::volume(volume).map_err(|why| see(format!("Error response from daemon: {why}")))?);
    }
    let of_engine = |network: &&str| {
        matches!(*network, "bridge" | "default" | "host" | "none") || network.starts_with("container:")
    };
    if let Some(network) = parsed.all("network").find(|network| !of_engine(network)) {
        return Err(Ended(format!("docker: Error response from daemon: network {network} not found."), 125));
    }
    let network_of = parsed.value("network").and_then(|network| network.strip_prefix("container:"));
    let create = Create {
        image: image.clone(),
        command: words.to_vec(),
        name: parsed.value("name").map(str::to_owned),
        hostname: parsed.value("hostname").map(str::to_owned),
        environment: environment(parsed),
        folder: parsed.value("workdir").map(str::to_owned),
        user: parsed.value("user").map(str::to_owned),
        entrypoint: parsed.value("entrypoint").map(str::to_owned),
        mounts,
        devices: parsed.all("device").map(str::to_owned).collect(),
        network_of: network_of.map(str::to_owned),
        secrets: std::collections::BTreeMap::new(),
        remove: parsed.has("rm"),
        init: parsed.has("init"),
        terminal,
        attached: !detach,
        from_file: false,
    };
    // Before anybody can find the container and type: the terminal of this process would echo that, too.
    let raw = (terminal && !detach).then(Raw::enter);
    let mut made: Result<Id, Failed> = session.ask(Ask::Create(Box::new(create.clone())));
    if matches!(&made, Err(failed) if failed.says == format!("No such image: {reference}")) {
        let _ = writeln!(session.err, "Unable to find image '{reference}' locally");
        for line in fetch(session, &reference).map_err(of_run)? {
            let _ = writeln!(session.err, "{line}");
        }
        made = session.ask(Ask::Create(Box::new(create)));
    }
    let Id { id } = made.map_err(of_run)?;
    let start = |session: &Session| session.ask::<Begun>(Ask::Start { id: id.clone() }).map_err(of_run);
    if detach {
        start(session)?;
        session.say(&id);
        return Ok(0);
    }
    if !terminal {
        let begun = start(session)?;
        return attached(session, &id, &begun, parsed.has("interactive"));
    }
    let failed = |error: io::Error| Ended(format!("ghost: the container's terminal: {error}"), 1);
    let request = Request::Terminal { board: session.board.clone(), container: id.clone() };
    let far = control::ask(session.socket, &request).map_err(failed)?;
    start(session)?;
    let (input, output) = standard().map_err(failed)?;
    carry(far, input, output).map_err(failed)?;
    drop(raw);
    session.ask(Ask::Wait { id: id.clone() }).map_err(of_run)
}

/// Runs a container's program on this process's own standard input and output.
fn attached(session: &Session, id: &str, begun: &Begun, reads: bool) -> Result<u8, Ended> {
    // Before this process is in the container, where nobody listens.
    let request =
        |code| Request::Engine { board: session.board.clone(), ask: Ask::Ended { id: id.to_owned(), code } };
    let daemon = std::os::unix::net::UnixStream::connect(session.socket)
        .map_err(|error| Ended(format!("ghost: {error}"), 125))?;
    let entered = sandbox::enter(begun.pid, &begun.program, reads);
    let (code, says) = match entered {
        Ok(Entered::Ended(code)) => (code, None),
        Ok(Entered::NotRun(not_run)) => {
            let failed = Failed::not_run(&not_run);
            (failed.code, Some(of_run(failed).0))
        }
        Err(error) => (125, Some(format!("ghost: the container can't be entered: {error}"))),
    };
    let _ = control::ask_on(daemon, &request(code));
    match says {
        None => Ok(code),
        Some(says) => Err(Ended(says, code)),
    }
}

#[cfg(test)]
mod tests;
