//! `schroot`: a root of the machine's own, of those that `/etc/schroot/schroot.conf` names, and a shell or a command in it.
//!
//! LAVA only looks whether its worker has one, and types the command of the device's `schroot` to the machine that it has logged
//! in to. So this runs there, and truly changes the root. Its messages are those of schroot 1.6.13, tried with Debian 12's; the
//! command line is taken apart as Boost's `program_options` does it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Called, Tool, system_says};

/// The tool.
pub const TOOL: Tool = Tool { names: &["schroot"], run };

const CONFIGURATION: &str = "/etc/schroot/schroot.conf";

/// The `PATH` that a chroot's programs have.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The letter and the name of each option, and whether it has a value.
const OPTIONS: &[(Option<char>, &str, bool)] = &[
    (Some('h'), "help", false),
    (Some('V'), "version", false),
    (Some('l'), "list", false),
    (Some('i'), "info", false),
    (None, "config", false),
    (None, "location", false),
    (Some('q'), "quiet", false),
    (Some('v'), "verbose", false),
    (Some('c'), "chroot", true),
    (Some('a'), "all", false),
    (None, "all-chroots", false),
    (None, "all-sessions", false),
    (None, "all-source-chroots", false),
    (None, "exclude-aliases", false),
    (Some('d'), "directory", true),
    (Some('s'), "shell", true),
    (Some('u'), "user", true),
    (Some('p'), "preserve-environment", false),
    (Some('o'), "option", true),
    (None, "automatic-session", false),
    (Some('b'), "begin-session", false),
    (None, "recover-session", false),
    (Some('r'), "run-session", false),
    (Some('e'), "end-session", false),
    (Some('n'), "session-name", true),
    (Some('f'), "force", false),
];

/// Those that are played.
const PLAYED: &[&str] = &["quiet", "chroot", "directory", "shell", "user", "automatic-session"];

fn run(called: Called) -> Result<u8, String> {
    let outcome = entered(called.args, Path::new(CONFIGURATION), &read("/etc/passwd"));
    match outcome {
        Ok(entry) => {
            let failed = entry.begin();
            let _ = write!(called.err, "{failed}");
            Ok(1)
        }
        Err(Refused::Said(said)) => {
            let _ = write!(called.err, "{said}");
            Ok(1)
        }
        Err(Refused::NotPlayed(what)) => Err(format!("schroot: {what} is not played")),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Why there is no way in.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// What the real one says.
    Said(String),
    /// What only the real one can do.
    NotPlayed(String),
}

/// `why` as an error of schroot's.
fn error(why: &str) -> Refused {
    Refused::Said(format!("E: {why}\n"))
}

/// What a chroot is entered for.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// What the chroot is called in the file.
    chroot: String,
    /// What it was called.
    alias: String,
    root: PathBuf,
    /// Where to be in it, if that was said.
    directory: Option<String>,
    user: User,
    /// The shell, if it was said.
    shell: Option<String>,
    /// What to run there; the user's shell where there is nothing.
    command: Vec<String>,
}

/// A user of the machine's.
#[derive(Debug, PartialEq, Eq)]
struct User {
    name: String,
    home: String,
    shell: String,
}

/// What `args` and the file `configuration` say, on a machine with these `users`.
fn entered(args: &[String], configuration: &Path, users: &str) -> Result<Entry, Refused> {
    let (mut options, command) = parse(args).map_err(|why| error(&why))?;
    if let Some(other) = options.keys().find(|name| !PLAYED.contains(name)) {
        return Err(Refused::NotPlayed(format!("--{other}")));
    }
    let mut chroots = options.remove("chroot").unwrap_or_else(|| vec!["default".into()]);
    if chroots.len() > 1 {
        return Err(Refused::NotPlayed("more than one chroot".into()));
    }
    let alias = chroots.remove(0);
    let text = fs::read_to_string(configuration).map_err(|found| {
        error(&format!("{}: Failed to stat file: {}", configuration.display(), system_says(&found)))
    })?;
    let known = sections(&text);
    if known.is_empty() {
        let folder = configuration.with_file_name("chroot.d");
        return Err(Refused::Said(format!(
            "W: No chroots are defined in ‘{}’ or ‘{}’\nE: {alias}: Chroot not found\n",
            configuration.display(),
            folder.display()
        )));
    }
    let is_it = |(name, keys): &(String, BTreeMap<String, String>)| {
        *name == alias
            || keys
                .get("aliases")
                .is_some_and(|aliases| aliases.split(',').any(|known| known.trim() == alias))
    };
    let Some((chroot, keys)) = known.into_iter().find(is_it) else {
        return Err(error(&format!("{alias}: Chroot not found")));
    };
    match keys.get("type").map_or("plain", String::as_str) {
        "plain" => {}
        kind @ ("directory" | "file" | "block-device" | "loopback" | "lvm-snapshot" | "btrfs-snapshot") => {
            return Err(Refused::NotPlayed(format!("a chroot of the type {kind}")));
        }
        other => {
            return Err(error(&format!("{}: Unknown chroot type ‘{other}’", configuration.display())));
        }
    }
    let Some(root) = keys.get("directory") else {
        let at = configuration.display();
        return Err(error(&format!("{at}: [{chroot}]: Required key ‘directory’ is missing")));
    };
    let mut last = |option| options.remove(option).and_then(|mut given: Vec<String>| given.pop());
    let name = last("user").unwrap_or_else(|| "root".into());
    let Some((user, id)) = user(users, &name) else {
        return Err(error(&format!("User ‘{name}’ not found")));
    };
    if id != "0" {
        return Err(Refused::NotPlayed(format!("the user {name}")));
    }
    let (directory, shell) = (last("directory"), last("shell"));
    Ok(Entry { chroot, alias, root: root.into(), directory, user, shell, command })
}

/// The user `name` of `/etc/passwd`, and the id.
fn user<'p>(users: &'p str, name: &str) -> Option<(User, &'p str)> {
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find_map(|fields| match fields.as_slice() {
        [found, _, id, _, _, home, shell] if *found == name => {
            Some((User { name: name.into(), home: (*home).into(), shell: (*shell).into() }, *id))
        }
        _ => None,
    })
}

/// The sections of the file, and the keys of each (schroot.conf(5)).
fn sections(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut sections: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push((name.to_owned(), BTreeMap::new()));
        } else if let (Some((key, value)), Some((_, keys))) = (line.split_once('='), sections.last_mut()) {
            keys.insert(key.to_owned(), value.to_owned());
        }
    }
    sections
}

/// The options that were given, each with its values, and the other words.
type Parsed = (BTreeMap<&'static str, Vec<String>>, Vec<String>);

/// Takes `args` apart: options stand anywhere before `--`, and long ones may be shortened.
fn parse(args: &[String]) -> Result<Parsed, String> {
    let mut options: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut words = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            words.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let (name, has_value) = long_option(name)?;
            let value = match (has_value, value) {
                (false, Some(_)) => return Err(format!("option '--{name}' does not take any arguments")),
                (false, None) => None,
                (true, Some(value)) => Some(value),
                (true, None) => Some(next_value(rest.next(), name)?),
            };
            options.entry(name).or_default().extend(value);
        } else if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            for (at, letter) in letters.char_indices() {
                let found = OPTIONS.iter().find(|(known, ..)| *known == Some(letter));
                let Some((_, name, has_value)) = found else {
                    return Err(format!("unrecognised option '-{letter}'"));
                };
                let given = options.entry(name).or_default();
                if *has_value {
                    let behind = &letters[at + letter.len_utf8()..];
                    given.push(match behind {
                        "" => next_value(rest.next(), name)?,
                        value => value.to_owned(),
                    });
                    break;
                }
            }
        } else {
            words.push(arg.clone());
        }
    }
    Ok((options, words))
}

fn next_value(value: Option<&String>, of: &str) -> Result<String, String> {
    value.cloned().ok_or_else(|| format!("the required argument for option '--{of}' is missing"))
}

/// The long option that `name` is, or is the clear beginning of.
fn long_option(name: &str) -> Result<(&'static str, bool), String> {
    if let Some((_, name, has_value)) = OPTIONS.iter().find(|(_, known, _)| *known == name) {
        return Ok((name, *has_value));
    }
    let begun: Vec<_> = OPTIONS.iter().filter(|(_, known, _)| known.starts_with(name)).collect();
    match begun.as_slice() {
        [] => Err(format!("unrecognised option '--{name}'")),
        [(_, name, has_value)] => Ok((name, *has_value)),
        [others @ .., (_, last, _)] => {
            let others: String = others.iter().map(|(_, name, _)| format!("'--{name}', ")).collect();
            Err(format!("option '--{name}' is ambiguous and matches {others}and '--{last}'"))
        }
    }
}

/// What schroot says where a folder is not in the chroot.
const NOT_INSIDE: &str = "I: The directory does not exist inside the chroot.  Use the --directory option to run the command in a \
                          different directory.\n";

impl Entry {
    /// Becomes what is to be run; returns only when that fails, with what schroot says of it.
    fn begin(self) -> String {
        let before = std::env::current_dir().map_or_else(|_| "/".into(), |path| path.display().to_string());
        let not_there = |path: &str, why: &std::io::Error| {
            format!("Failed to change to directory ‘{path}’: {}\n", system_says(why))
        };
        let root = self.root.display().to_string();
        let into = std::env::set_current_dir(&self.root)
            .and_then(|()| std::os::unix::fs::chroot(&self.root))
            .and_then(|()| std::env::set_current_dir("/"));
        if let Err(why) = into {
            return format!("E: {}", not_there(&root, &why));
        }
        let wanted = self.directory.as_deref().unwrap_or(&before);
        if let Err(why) = std::env::set_current_dir(wanted) {
            if self.directory.is_some() || !self.command.is_empty() {
                return format!("E: {}{NOT_INSIDE}", not_there(wanted, &why));
            }
            eprint!("W: {}{NOT_INSIDE}", not_there(wanted, &why));
            if let Err(why) = std::env::set_current_dir(&self.user.home) {
                eprint!("W: {}{NOT_INSIDE}", not_there(&self.user.home, &why));
                eprintln!("W: Falling back to directory ‘/’");
            }
        }
        self.run()
    }

    /// The rest of it, inside.
    fn run(self) -> String {
        let shell = self.shell();
        let name =
            Path::new(&shell).file_name().map_or_else(String::new, |name| format!("-{}", name.display()));
        let said = if self.command.is_empty() { name.clone() } else { self.command.join(" ") };
        let mut command = match self.command.split_first() {
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args);
                command
            }
            None => {
                let mut command = Command::new(&shell);
                command.arg0(&name);
                command
            }
        };
        let program = self.command.first().unwrap_or(&shell).clone();
        command.env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| name == "TERM"));
        command.envs([("HOME", &self.user.home), ("LOGNAME", &self.user.name), ("USER", &self.user.name)]);
        command.envs([("PATH", PATH), ("SHELL", &shell)]);
        command.envs([
            ("SCHROOT_ALIAS_NAME", self.alias.as_str()),
            ("SCHROOT_CHROOT_NAME", &self.chroot),
            ("SCHROOT_COMMAND", &said),
            ("SCHROOT_GID", "0"),
            ("SCHROOT_GROUP", "root"),
            // A plain chroot has no sessions.
            ("SCHROOT_SESSION_ID", &self.chroot),
            ("SCHROOT_UID", "0"),
            ("SCHROOT_USER", &self.user.name),
        ]);
        let why = command.exec();
        format!("E: Failed to execute “{program}”: {}\n", system_says(&why))
    }

    /// The shell that was asked for; else the user's, or one that is there.
    fn shell(&self) -> String {
        let asked = self.shell.as_deref();
        let shells = match asked {
            Some(shell) => vec![shell],
            None => vec![self.user.shell.as_str(), "/bin/bash", "/bin/sh"],
        };
        for (at, shell) in shells.into_iter().enumerate() {
            match fs::metadata(shell) {
                Ok(_) => {
                    if at > 0 && self.command.is_empty() {
                        eprintln!("W: Falling back to shell ‘{shell}’");
                    }
                    return shell.into();
                }
                Err(why) if self.command.is_empty() => {
                    let why = system_says(&why);
                    eprintln!("W: Shell ‘{shell}’ not available: {shell}: Failed to stat file: {why}");
                }
                Err(_) => {}
            }
        }
        asked.unwrap_or(&self.user.shell).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";

    const CHROOTS: &str = "\
# Those of a lab
[unstable]
description=Debian unstable
type=plain
directory=/srv/chroot/unstable
aliases=sid,default

[image]
type=file
file=/srv/image.tar

[nothing]
type=plain
[odd]
type=odd
";

    fn of(configuration: &str, line: &str) -> Result<Entry, Refused> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schroot.conf");
        fs::write(&path, configuration).unwrap();
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let here = format!("{}/", folder.path().display());
        entered(&args, &path, USERS).map_err(|refused| match refused {
            Refused::Said(said) => Refused::Said(said.replace(&here, "")),
            not_played @ Refused::NotPlayed(_) => not_played,
        })
    }

    #[test]
    fn a_chroot_has_names_and_without_one_it_is_the_default() {
        for line in
            ["-d / -u root", "-c unstable -d/ -uroot", "--chr=sid --directory / --user root", "-qd / -csid"]
        {
            let entry = of(CHROOTS, line).unwrap();
            assert_eq!(entry.chroot, "unstable", "{line}");
            assert_eq!(entry.root, Path::new("/srv/chroot/unstable"), "{line}");
            assert_eq!(entry.directory.as_deref(), Some("/"), "{line}");
            assert_eq!(entry.user.name, "root", "{line}");
            assert!(entry.command.is_empty(), "{line}");
        }
        assert_eq!(of(CHROOTS, "-c sid -- ls -l").unwrap().command, ["ls", "-l"]);
    }

    /// As schroot 1.6.13 printed them.
    #[test]
    fn what_is_wrong_is_said_as_schroot_says_it() {
        for (line, said) in [
            ("-c experimental -d / -u root", "experimental: Chroot not found"),
            ("-c =sid", "=sid: Chroot not found"),
            ("-d / -u nobodyx", "User ‘nobodyx’ not found"),
            ("-c", "the required argument for option '--chroot' is missing"),
            ("--chroot", "the required argument for option '--chroot' is missing"),
            ("--frob", "unrecognised option '--frob'"),
            ("-d / -x", "unrecognised option '-x'"),
            ("--quiet=1", "option '--quiet' does not take any arguments"),
            (
                "--al",
                "option '--al' is ambiguous and matches '--all', '--all-chroots', '--all-sessions', and \
                 '--all-source-chroots'",
            ),
            ("-c nothing", "schroot.conf: [nothing]: Required key ‘directory’ is missing"),
            ("-c odd", "schroot.conf: Unknown chroot type ‘odd’"),
        ] {
            assert_eq!(of(CHROOTS, line), Err(Refused::Said(format!("E: {said}\n"))), "{line}");
        }
        let none =
            "W: No chroots are defined in ‘schroot.conf’ or ‘chroot.d’\nE: default: Chroot not found\n";
        assert_eq!(of("# none\n", "-d /"), Err(Refused::Said(none.into())));
    }

    #[test]
    fn without_its_file_there_is_no_chroot() {
        let nowhere = Path::new("/nowhere/schroot.conf");
        let said = "E: /nowhere/schroot.conf: Failed to stat file: No such file or directory\n";
        assert_eq!(entered(&[], nowhere, USERS), Err(Refused::Said(said.into())));
    }

    #[test]
    fn what_only_the_real_one_can_do_is_not_done_silently() {
        for (line, what) in [
            ("--list", "--list"),
            ("-b -c sid", "--begin-session"),
            ("-c image", "a chroot of the type file"),
            ("-c sid -u user", "the user user"),
            ("-c sid -c unstable", "more than one chroot"),
        ] {
            assert_eq!(of(CHROOTS, line), Err(Refused::NotPlayed(what.into())), "{line}");
        }
    }
}
