//! `rclone`: files that a lab keeps elsewhere, of which LAVA asks the size (`size --json`) and then the bytes (`cat`).
//!
//! Remotes of the type `http` are truly read; what a remote is comes from the configuration or from the environment. Messages and
//! exit codes are those of rclone 1.60.1, tried with Debian 12's. Commands, options and types that LAVA's jobs here have no use for
//! are not played, and say so.
//!
//! A call is noted with the board that LAVA's job is for ([`super::caller`]).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::docker::flags::{Flag, NONE, Parsed, Takes, parse};
use super::{Called, Tool, caller};
use crate::net::{FetchError, http};

/// The tool.
pub const TOOL: Tool = Tool { names: &["rclone"], run };

/// What the real one exits with where there is no such folder.
const NO_SUCH_FOLDER: u8 = 3;

/// A command that is played.
struct Command {
    name: &'static str,
    flags: &'static [Flag],
    /// What its `--help` says of its options.
    usage: &'static str,
}

const CONFIG: Flag = (NONE, "config", Takes::Text);

const COMMANDS: &[Command] = &[
    Command {
        name: "size",
        flags: &[CONFIG, ('h', "help", Takes::Switch), (NONE, "json", Takes::Switch)],
        usage: "  -h, --help   help for size\n      --json   Format output as JSON\n",
    },
    Command {
        name: "cat",
        flags: &[
            CONFIG,
            (NONE, "count", Takes::Number),
            (NONE, "discard", Takes::Switch),
            (NONE, "head", Takes::Number),
            ('h', "help", Takes::Switch),
            (NONE, "offset", Takes::Number),
            (NONE, "tail", Takes::Number),
        ],
        usage: concat!(
            "      --count int    Only print N characters (default -1)\n",
            "      --discard      Discard the output instead of printing\n",
            "      --head int     Only print the first N characters\n",
            "  -h, --help         help for cat\n",
            "      --offset int   Start printing at offset N (or from end if -ve)\n",
            "      --tail int     Only print the last N characters\n",
        ),
    },
];

/// Types that the real one has and this one can't read.
const NOT_READ: &[&str] =
    &["alias", "azureblob", "b2", "drive", "ftp", "local", "s3", "sftp", "smb", "swift", "webdav"];

fn run(called: Called) -> Result<u8, String> {
    caller::board(&called).map_err(|error| format!("rclone: {error}"))?;
    let environment = std::env::vars().collect();
    match done(called.args, &environment, &mut |url| fetch(url)) {
        Ok(Done { says, out }) => {
            let _ = called.err.write_all(says.as_bytes());
            // Who reads may have gone: then there is nobody to tell.
            let _ = called.out.write_all(&out);
            Ok(0)
        }
        Err(Refused::Said(said, code)) => {
            let _ = called.err.write_all(said.as_bytes());
            Ok(code)
        }
        Err(Refused::NotPlayed(what)) => Err(format!("rclone: {what} is not played")),
    }
}

fn fetch(url: &str) -> Result<Vec<u8>, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error: io::Error| FetchError::Bad(error.to_string()))?;
    runtime.block_on(http::get(url))
}

/// What a call comes to that goes well.
#[derive(Debug, PartialEq, Eq)]
struct Done {
    /// What it says on the side.
    says: String,
    out: Vec<u8>,
}

/// Why there is nothing.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// What the real one says, and its exit code.
    Said(String, u8),
    /// What only the real one can do.
    NotPlayed(String),
}

type Environment = BTreeMap<String, String>;

/// Does what `args` say.
fn done(
    args: &[String],
    environment: &Environment,
    fetch: &mut dyn FnMut(&str) -> Result<Vec<u8>, FetchError>,
) -> Result<Done, Refused> {
    let log = Log(environment.get("RCLONE_LOG_FORMAT").map_or("date,time", String::as_str));
    let Some((name, rest)) = args.split_first() else {
        return Err(Refused::NotPlayed("a call without a command".into()));
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Refused::NotPlayed(format!("the command {name:?}")));
    };
    let parsed = parse(rest, command.flags, false).map_err(|why| {
        let fatal = log.line(&format!("Fatal error: {why}"));
        Refused::Said(format!("Error: {why}\n{}\n{fatal}", command.help()), 1)
    })?;
    let source = command.only_word(&parsed)?;
    let json = parsed.has("json");
    if let Some(other) = parsed.names().find(|name| !["config", "json"].contains(name)) {
        return Err(Refused::NotPlayed(format!("--{other} of {name}")));
    }
    if name == "size" && !json {
        return Err(Refused::NotPlayed("size without --json".into()));
    }

    let (remotes, mut says) = configuration(parsed.value("config"), environment, log)?;
    let said = |says: &str, why: &str, code| Refused::Said(format!("{says}{}", log.line(why)), code);
    let Some((remote, path)) = source.split_once(':') else {
        return Err(Refused::NotPlayed(format!("the local path {source:?}")));
    };
    let key = |key: &str| {
        let variable = format!("RCLONE_CONFIG_{}_{}", remote.to_uppercase(), key.to_uppercase());
        let section = remotes.get(remote);
        environment.get(&variable).or_else(|| section.and_then(|keys| keys.get(key))).map(String::as_str)
    };
    let no_remote =
        |why: &str| said(&says, &format!("Failed to create file system for \"{source}\": {why}"), 1);
    match key("type") {
        None => return Err(no_remote("didn't find section in config file")),
        Some("http") => {}
        Some(kind) if NOT_READ.contains(&kind) => {
            return Err(Refused::NotPlayed(format!("a remote of the type {kind}")));
        }
        Some(kind) => return Err(no_remote(&format!("didn't find backend called \"{kind}\""))),
    }
    let Some(url) = key("url") else { return Err(Refused::NotPlayed("a remote without a `url`".into())) };
    let url = format!("{}/{}", url.trim_end_matches('/'), path.trim_start_matches('/'));
    let bytes = match fetch(&url) {
        Ok(bytes) => bytes,
        Err(FetchError::NotFound(_)) => {
            // What is no file is taken for a folder, and listed.
            let why = "error listing \"\": directory not found";
            says.push_str(&log.line(&format!("ERROR : : error listing: {why}")));
            return Err(said(
                &says,
                &format!("Failed to {name} with 2 errors: last error was: {why}"),
                NO_SUCH_FOLDER,
            ));
        }
        Err(other) => return Err(Refused::NotPlayed(format!("what it says of {url} ({other})"))),
    };
    let out = match name.as_str() {
        "size" => format!("{{\"count\":1,\"bytes\":{},\"sizeless\":0}}\n", bytes.len()).into_bytes(),
        _ => bytes,
    };
    Ok(Done { says, out })
}

impl Command {
    fn help(&self) -> String {
        let Self { name, usage, .. } = self;
        format!(
            "Usage:\n  rclone {name} remote:path [flags]\n\nFlags:\n{usage}\nUse \"rclone [command] --help\" for more \
             information about a command.\nUse \"rclone help flags\" for to see the global flags.\nUse \"rclone help \
             backends\" for a list of supported services.\n"
        )
    }

    /// The one word that it takes.
    fn only_word<'p>(&self, parsed: &'p Parsed) -> Result<&'p str, Refused> {
        let limit = match parsed.words.as_slice() {
            [word] => return Ok(word),
            [] => "minimum",
            _ => "maximum",
        };
        let words: Vec<_> = parsed.words.iter().map(|word| format!("{word:?}")).collect();
        let (name, given, words) = (self.name, words.len(), words.join(" "));
        let why = format!(
            "Command {name} needs 1 arguments {limit}: you provided {given} non flag arguments: [{words}]\n"
        );
        Err(Refused::Said(self.help() + &why, 1))
    }
}

/// Remotes by name, each with its keys.
type Remotes = BTreeMap<String, BTreeMap<String, String>>;

/// The remotes of the configuration, and what is said of it. It is read by hand: the crates for INI files have rules of
/// their own for comments and quotes and words of their own for a line that they can't read, and these words are rclone's.
fn configuration(
    path: Option<&str>,
    environment: &Environment,
    log: Log,
) -> Result<(Remotes, String), Refused> {
    let home = environment.get("HOME").map_or("", String::as_str);
    let path = match path.or_else(|| environment.get("RCLONE_CONFIG").map(String::as_str)) {
        Some(path) => {
            std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
        }
        None => format!("{home}/.config/rclone/rclone.conf"),
    };
    let mut remotes = Remotes::new();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((
                remotes,
                log.line(&format!("NOTICE: Config file \"{path}\" not found - using defaults")),
            ));
        }
        Err(error) => return Err(Refused::NotPlayed(format!("the file {path} ({error})"))),
    };
    let mut section = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            let keys = remotes.entry(section.clone()).or_default();
            keys.insert(key.trim().to_owned(), value.trim().to_owned());
        } else {
            let why =
                log.line(&format!("Failed to load config file \"{path}\": could not parse line: {line}"));
            return Err(Refused::Said(why, 1));
        }
    }
    Ok((remotes, String::new()))
}

/// How a line begins: `--log-format`.
#[derive(Clone, Copy)]
struct Log<'a>(&'a str);

impl Log<'_> {
    fn line(self, text: &str) -> String {
        let has = |what: &str| self.0.split(',').any(|part| part == what);
        let form = match (has("date"), has("time")) {
            (true, true) => "%Y/%m/%d %H:%M:%S ",
            (true, false) => "%Y/%m/%d ",
            (false, true) => "%H:%M:%S ",
            (false, false) => "",
        };
        format!("{}{text}\n", DateTime::<Utc>::from(SystemTime::now()).format(form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str =
        "# A lab's\n[lab]\ntype = http\nurl = http://files/\n[odd]\ntype = odd\n[none]\nurl = x\n";

    /// What comes of the words of `line`, with the configuration `lab.conf` and no dates.
    fn of(line: &str, more: &[(&str, &str)]) -> Result<Done, Refused> {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        fs::write(folder.path().join("lab.conf"), LAB).unwrap();
        fs::write(folder.path().join("bad.conf"), "rubbish\n").unwrap();
        let args: Vec<String> = line.replace("HERE", &here).split_whitespace().map(str::to_owned).collect();
        let environment = [("HOME", "/root"), ("RCLONE_LOG_FORMAT", "")].iter().chain(more);
        let environment =
            environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut fetch = |url: &str| match url {
            "http://files/a.txt" => Ok(b"hello\n".to_vec()),
            _ => Err(FetchError::NotFound(url.to_owned())),
        };
        done(&args, &environment, &mut fetch).map_err(|refused| match refused {
            Refused::Said(said, code) => Refused::Said(said.replace(&here, "HERE"), code),
            other => other,
        })
    }

    #[test]
    fn a_file_of_a_remote_has_a_size_and_bytes() {
        let size = |line| String::from_utf8(of(line, &[]).unwrap().out).unwrap();
        assert_eq!(
            size("size --json lab:a.txt --config HERE/lab.conf"),
            "{\"count\":1,\"bytes\":6,\"sizeless\":0}\n"
        );
        assert_eq!(size("cat lab:/a.txt --config=HERE/lab.conf"), "hello\n");
    }

    #[test]
    fn a_remote_may_stand_in_the_environment() {
        let lab = [("RCLONE_CONFIG_LAB_TYPE", "http"), ("RCLONE_CONFIG_LAB_URL", "http://files")];
        let says = "NOTICE: Config file \"/root/.config/rclone/rclone.conf\" not found - using defaults\n";
        assert_eq!(of("cat lab:a.txt", &lab), Ok(Done { says: says.into(), out: b"hello\n".to_vec() }));
    }

    /// As rclone 1.60.1 printed them.
    #[test]
    fn what_is_wrong_is_said_as_rclone_says_it() {
        let no_file = |command| {
            format!(
                "ERROR : : error listing: error listing \"\": directory not found\n\
                 Failed to {command} with 2 errors: last error was: error listing \"\": directory not found\n"
            )
        };
        for (line, said, code) in [
            ("size --json lab:b --config HERE/lab.conf", no_file("size"), 3),
            ("cat lab:b --config HERE/lab.conf", no_file("cat"), 3),
            (
                "cat other:b --config HERE/lab.conf",
                "Failed to create file system for \"other:b\": didn't find section in config file\n".into(),
                1,
            ),
            (
                "cat none:b --config HERE/lab.conf",
                "Failed to create file system for \"none:b\": didn't find section in config file\n".into(),
                1,
            ),
            (
                "cat odd:b --config HERE/lab.conf",
                "Failed to create file system for \"odd:b\": didn't find backend called \"odd\"\n".into(),
                1,
            ),
            (
                "cat lab:b --config HERE/nowhere",
                "NOTICE: Config file \"HERE/nowhere\" not found - using defaults\n\
                 Failed to create file system for \"lab:b\": didn't find section in config file\n"
                    .into(),
                1,
            ),
            (
                "cat lab:b --config HERE/bad.conf",
                "Failed to load config file \"HERE/bad.conf\": could not parse line: rubbish\n".into(),
                1,
            ),
        ] {
            assert_eq!(of(line, &[]), Err(Refused::Said(said, code)), "{line}");
        }
        for (line, first, last) in [
            ("size --jsn lab:a", "Error: unknown flag: --jsn", "Fatal error: unknown flag: --jsn"),
            (
                "cat lab:a --config",
                "Error: flag needs an argument: --config",
                "Fatal error: flag needs an argument: --config",
            ),
            (
                "size --json",
                "Usage:",
                "Command size needs 1 arguments minimum: you provided 0 non flag arguments: []",
            ),
            (
                "cat a b",
                "Usage:",
                "Command cat needs 1 arguments maximum: you provided 2 non flag arguments: [\"a\" \"b\"]",
            ),
        ] {
            let Err(Refused::Said(said, 1)) = of(line, &[]) else { panic!("{line}") };
            assert_eq!((said.lines().next(), said.lines().last()), (Some(first), Some(last)), "{line}");
        }
    }

    #[test]
    fn what_is_not_played_says_so() {
        for line in ["", "ls lab:", "size lab:a.txt", "cat --head 3 lab:a.txt", "cat /etc/hostname"] {
            assert!(matches!(of(line, &[]), Err(Refused::NotPlayed(_))), "{line}");
        }
    }

    #[test]
    fn lines_begin_as_the_log_s_format_says() {
        assert_eq!(Log("").line("x"), "x\n");
        assert_eq!(Log("date,time").line("x").len(), "2026/11/28 08:46:52 x\n".len());
        assert_eq!(Log("time").line("x").len(), "08:46:52 x\n".len());
    }
}
