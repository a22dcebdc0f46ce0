//! `docker compose`, Compose's plugin for Docker's client: the containers that a file lists, started and stopped together.
//!
//! Commands, options, messages and exit codes are those of Compose 2.40.3 as Debian's sid has it, tried with the real one without
//! a terminal. LAVA calls `version`, `up --detach` and `down` (`lava_dispatcher/actions/test/service.py`). What a file says and the ghost
//! does not play is refused, so that no service runs as something else than what was asked for.
//!
//! The file is read by types of our own: `docker-compose-types` and `compose_spec` take any file that is right, and say of a wrong one
//! what Compose does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_yaml::Value;

use super::flags::{Flag, NONE, Parsed, Takes, parse};
use super::{Ended, Session, layer_steps, mounts, of_daemon};
use crate::engine::image::Reference;
use crate::engine::{Ask, Begun, Create, Failed, Id, Object, Of, Pulled};

use Takes::{Number, Switch, Text};

const VERSION: &str = "2.40.3-3";

/// Those before the command.
const GLOBAL: &[Flag] = &[
    (NONE, "all-resources", Switch),
    (NONE, "ansi", Text),
    (NONE, "compatibility", Switch),
    (NONE, "dry-run", Switch),
    (NONE, "env-file", Text),
    ('f', "file", Text),
    (NONE, "parallel", Number),
    (NONE, "profile", Text),
    (NONE, "progress", Text),
    (NONE, "project-directory", Text),
    ('p', "project-name", Text),
];

const UP: &[Flag] = &[
    (NONE, "abort-on-container-exit", Switch),
    (NONE, "abort-on-container-failure", Switch),
    (NONE, "always-recreate-deps", Switch),
    (NONE, "attach", Text),
    (NONE, "attach-dependencies", Switch),
    (NONE, "build", Switch),
    ('d', "detach", Switch),
    (NONE, "dry-run", Switch),
    (NONE, "exit-code-from", Text),
    (NONE, "force-recreate", Switch),
    (NONE, "menu", Switch),
    (NONE, "no-attach", Text),
    (NONE, "no-build", Switch),
    (NONE, "no-color", Switch),
    (NONE, "no-deps", Switch),
    (NONE, "no-log-prefix", Switch),
    (NONE, "no-recreate", Switch),
    (NONE, "no-start", Switch),
    (NONE, "pull", Text),
    (NONE, "quiet-build", Switch),
    (NONE, "quiet-pull", Switch),
    (NONE, "remove-orphans", Switch),
    ('V', "renew-anon-volumes", Switch),
    (NONE, "scale", Text),
    ('t', "timeout", Number),
    (NONE, "timestamps", Switch),
    (NONE, "wait", Switch),
    (NONE, "wait-timeout", Number),
    ('w', "watch", Switch),
    ('y', "yes", Switch),
];

const DOWN: &[Flag] = &[
    (NONE, "dry-run", Switch),
    (NONE, "remove-orphans", Switch),
    (NONE, "rmi", Text),
    ('t', "timeout", Number),
    ('v', "volumes", Switch),
];

const VERSION_FLAGS: &[Flag] = &[(NONE, "dry-run", Switch), ('f', "format", Text), (NONE, "short", Switch)];

/// Options that change nothing without a terminal, a build or a second container of a service. All others are refused.
const TAKEN: &[&str] = &[
    "all-resources",
    "ansi",
    "detach",
    "file",
    "no-build",
    "no-color",
    "no-log-prefix",
    "parallel",
    "progress",
    "project-name",
    "quiet-build",
    "remove-orphans",
    "timeout",
    "timestamps",
    "volumes",
    "yes",
];

/// Commands of Compose's that are not played.
const NOT_PLAYED: &[&str] = &[
    "attach", "bridge", "build", "commit", "config", "cp", "create", "events", "exec", "export", "images",
    "kill", "logs", "ls", "pause", "port", "ps", "publish", "pull", "push", "restart", "rm", "run", "scale",
    "start", "stats", "stop", "top", "unpause", "volumes", "wait", "watch",
];

/// What a file may have beside its services, and the ghost does not play (`schema/compose-spec.json` of `compose-spec/compose-go`).
const KEYS_NOT_PLAYED: &[&str] = &["configs", "include", "models", "name", "networks", "secrets", "volumes"];

/// The same of a service.
const SERVICE_KEYS_NOT_PLAYED: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "init",
    "ipc",
    "isolation",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "post_start",
    "pre_stop",
    "profiles",
    "provider",
    "pull_policy",
    "read_only",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "userns_mode",
    "uts",
    "volumes_from",
];

/// A file, with what variables stand for in it.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    services: BTreeMap<String, Service>,
    /// It means nothing any more.
    #[serde(default, rename = "version")]
    _version: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Service {
    image: Option<String>,
    #[serde(default)]
    command: Command,
    #[serde(default)]
    environment: Variables,
    hostname: Option<String>,
    user: Option<String>,
    working_dir: Option<String>,
    #[serde(default)]
    volumes: Vec<String>,
    /// What a container without a network, whose end nobody waits for, has nothing of.
    #[serde(default, rename = "ports")]
    _ports: Option<Value>,
    #[serde(default, rename = "privileged")]
    _privileged: Option<Value>,
    #[serde(default, rename = "restart")]
    _restart: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A command: words, or a line of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Line(String),
    Words(Vec<String>),
}

impl Default for Command {
    fn default() -> Self {
        Self::Words(Vec::new())
    }
}

/// Variables: by name, or as a list of `NAME=VALUE`. One without a value is the caller's own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Variables {
    ByName(BTreeMap<String, Option<Scalar>>),
    List(Vec<String>),
}

impl Default for Variables {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// What YAML makes of a value without quotes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Truth(bool),
    Number(serde_yaml::Number),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A file that was read, and what its containers are called by.
#[derive(Debug)]
struct Project {
    name: String,
    /// The folder of the file, which relative paths in it begin in.
    folder: PathBuf,
    services: BTreeMap<String, Service>,
    environment: BTreeMap<String, String>,
}

/// Runs `docker compose` with `args`. Without an engine only its version can be asked for.
///
/// # Errors
/// What stands on standard error, and the exit code.
pub(super) fn run(session: &mut Session, args: &[String]) -> Result<u8, Ended> {
    let ended = |why: String| Ended(why, 1);
    let global = parse(args, GLOBAL, true).map_err(ended)?;
    let Some((command, args)) = global.words.split_first() else {
        return Err(ended("ghost: docker compose without a command is not played".into()));
    };
    match command.as_str() {
        "version" => {
            let parsed = parse(args, VERSION_FLAGS, false).map_err(ended)?;
            if let Some(word) = parsed.words.first() {
                return Err(ended(format!("unknown command \"{word}\" for \"docker compose version\"")));
            }
            session.say(&version(&parsed));
            Ok(0)
        }
        "up" => {
            let parsed = parse(args, UP, false).map_err(ended)?;
            played(&global)?;
            played(&parsed)?;
            if !parsed.has("detach") {
                return Err(ended("ghost: docker compose up without --detach is not played".into()));
            }
            let project = Project::read(session, &global)?;
            project.up(session, &parsed.words)
        }
        "down" => {
            let parsed = parse(args, DOWN, false).map_err(ended)?;
            played(&global)?;
            played(&parsed)?;
            let project = Project::read(session, &global)?;
            project.down(session, &parsed.words)
        }
        command if NOT_PLAYED.contains(&command) => {
            Err(ended(format!("ghost: docker compose {command} is not played")))
        }
        command => Err(ended(format!("unknown docker command: \"compose {command}\""))),
    }
}

fn version(parsed: &Parsed) -> String {
    match (parsed.value("format"), parsed.has("short")) {
        (Some("json"), _) => format!("{{\"version\":\"{VERSION}\"}}"),
        (_, true) => VERSION.to_owned(),
        _ => format!("Docker Compose version {VERSION}"),
    }
}

/// Refuses what is an option of Compose's and would have to change what the ghost does.
fn played(parsed: &Parsed) -> Result<(), Ended> {
    match parsed.names().find(|name| !TAKEN.contains(name)) {
        Some(name) => Err(Ended(format!("ghost: --{name} of docker compose is not played"), 1)),
        None => Ok(()),
    }
}

/// `^[a-z0-9][a-z0-9_-]*$` (`loader.NormalizeProjectName` of compose-go).
fn is_project_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    name.chars().all(inner) && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

impl Project {
    fn read(session: &mut Session, global: &Parsed) -> Result<Self, Ended> {
        let ended = |why: String| Ended(why, 1);
        let mut files = global.all("file");
        let (Some(file), None) = (files.next(), files.next()) else {
            return Err(ended("ghost: docker compose is played with one --file".into()));
        };
        let Some(name) = global.value("project-name") else {
            return Err(ended("ghost: docker compose is played with --project-name".into()));
        };
        if !is_project_name(name) {
            return Err(ended(format!(
                "invalid project name \"{name}\": must consist only of lowercase alphanumeric characters, hyphens, and \
                 underscores as well as start with a letter or number"
            )));
        }
        let path = std::path::absolute(file).map_err(|error| ended(error.to_string()))?;
        let text = std::fs::read_to_string(&path).map_err(|error| {
            ended(format!("open {}: {}", path.display(), super::super::system_says(&error).to_lowercase()))
        })?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let environment = environment(&folder).map_err(ended)?;
        let (services, warnings) = services(&path, &text, &environment).map_err(ended)?;
        for warning in warnings {
            let _ = writeln!(session.err, "{warning}");
        }
        Ok(Self { name: name.to_owned(), folder, services, environment })
    }

    /// The services that are named; all where none is.
    fn chosen(&self, names: &[String]) -> Result<BTreeMap<&str, &Service>, Ended> {
        if let Some(unknown) = names.iter().find(|name| !self.services.contains_key(*name)) {
            return Err(Ended(format!("no such service: {unknown}"), 1));
        }
        let is_chosen = |name: &String| names.is_empty() || names.contains(name);
        Ok(self
            .services
            .iter()
            .filter(|(name, _)| is_chosen(name))
            .map(|(name, service)| (name.as_str(), service))
            .collect())
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    fn up(&self, session: &mut Session, names: &[String]) -> Result<u8, Ended> {
        let chosen = self.chosen(names)?;
        let mut creates = Vec::new();
        for (name, service) in &chosen {
            creates.push((*name, self.create(name, service)?));
        }
        for (service, create) in &creates {
            fetch(session, service, &create.image)?;
        }
        let network = format!("{}_default", self.name);
        if session.ask(Ask::Network { name: network.clone(), make: true }).map_err(of_daemon)? {
            session.step("Network", &network, &["Creating", "Created"]);
        }
        let mut begun = Vec::new();
        for (_, create) in creates {
            let name = create.name.clone().unwrap_or_default();
            match session.container(&name) {
                Some(true) => session.step("Container", &name, &["Running"]),
                Some(false) => {
                    // One that has ended is started once more. A sandbox can't be, and is made anew.
                    session.ask::<()>(Ask::Remove { name: name.clone(), force: true }).map_err(of_daemon)?;
                    begun.push((name, session.ask::<Id>(Ask::Create(Box::new(create))).map_err(of_daemon)?));
                }
                None => {
                    session.step("Container", &name, &["Creating"]);
                    let id = session.ask::<Id>(Ask::Create(Box::new(create))).map_err(of_daemon)?;
                    session.step("Container", &name, &["Created"]);
                    begun.push((name, id));
                }
            }
        }
        for (name, Id { id }) in begun {
            session.step("Container", &name, &["Starting"]);
            session.ask::<Begun>(Ask::Start { id }).map_err(of_daemon)?;
            session.step("Container", &name, &["Started"]);
        }
        Ok(0)
    }

    fn down(&self, session: &mut Session, names: &[String]) -> Result<u8, Ended> {
        for name in self.chosen(names)?.into_keys() {
            let name = self.container(name);
            if session.container(&name).is_none() {
                continue;
            }
            session.step("Container", &name, &["Stopping"]);
            session.ask::<()>(Ask::Stop { name: name.clone() }).map_err(of_daemon)?;
            session.step("Container", &name, &["Stopped", "Removing"]);
            session.ask::<()>(Ask::Remove { name: name.clone(), force: true }).map_err(of_daemon)?;
            session.step("Container", &name, &["Removed"]);
        }
        let network = format!("{}_default", self.name);
        if session.ask(Ask::Network { name: network.clone(), make: false }).map_err(of_daemon)? {
            session.step("Network", &network, &["Removing", "Removed"]);
        }
        Ok(0)
    }

    /// What the container of a service is to be.
    fn create(&self, name: &str, service: &Service) -> Result<Create, Ended> {
        let ended = |why: String| Ended(why, 1);
        let Some(image) = &service.image else {
            return Err(ended(format!(
                "service \"{name}\" has neither an image nor a build context specified: invalid compose project"
            )));
        };
        let command = match &service.command {
            Command::Words(words) => words.clone(),
            Command::Line(line) => shlex::split(line).ok_or_else(|| {
                ended(format!("ghost: the command of the service {name} is no line of a shell's"))
            })?,
        };
        let mut mounts = Vec::new();
        for volume in &service.volumes {
            let mut mount = mounts::volume(volume).map_err(ended)?;
            if mount.source.starts_with('.') {
                let clean = self.folder.join(&mount.source).components().collect::<PathBuf>();
                clean.to_string_lossy().into_owned().clone_into(&mut mount.source);
            } else if !mount.source.starts_with('/') {
                return Err(ended(format!("ghost: {volume}: volumes that have a name are not played")));
            }
            mounts.push(mount);
        }
        let own = |name: &String| self.environment.get(name).map(|value| format!("{name}={value}"));
        let environment = match &service.environment {
            Variables::ByName(by_name) => by_name
                .iter()
                .filter_map(|(name, value)| match value {
                    Some(value) => Some(format!("{name}={value}")),
                    None => own(name),
                })
                .collect(),
            Variables::List(list) => list
                .iter()
                .filter_map(|one| if one.contains('=') { Some(one.clone()) } else { own(one) })
                .collect(),
        };
        Ok(Create {
            image: image.clone(),
            command,
            name: Some(self.container(name)),
            hostname: service.hostname.clone(),
            environment,
            folder: service.working_dir.clone(),
            user: service.user.clone(),
            mounts,
            from_file: true,
            ..Create::default()
        })
    }
}

impl Session<'_> {
    /// Tells of steps as Compose does where nobody looks.
    fn step(&mut self, what: &str, name: &str, states: &[&str]) {
        for state in states {
            let _ = writeln!(self.err, " {what} {name}  {state}");
        }
    }

    /// Whether the container `name` runs; nothing where there is none.
    fn container(&self, name: &str) -> Option<bool> {
        let object: Object = self.ask(Ask::Inspect { name: name.to_owned(), of: Of::Container }).ok()?;
        Some(object.properties.get("State.Running").is_some_and(|running| running == "true"))
    }
}

/// Fetches the image of a service, where it is not there.
fn fetch(session: &mut Session, service: &str, image: &str) -> Result<(), Ended> {
    let reference = Reference::parse(image).map_err(|error| Ended(error.to_string(), 1))?;
    let inspect = Ask::Inspect { name: reference.to_string(), of: Of::Image };
    if session.ask::<Object>(inspect).is_ok() {
        return Ok(());
    }
    let _ = writeln!(session.err, " {service} Pulling ");
    let pulled: Result<Pulled, Failed> = session.ask(Ask::Pull { image: reference.to_string() });
    let pulled = pulled.map_err(|failed| {
        let _ = writeln!(session.err, " {service} Error {}", failed.says);
        of_daemon(failed)
    })?;
    for (layer, step) in layer_steps(&pulled) {
        let _ = writeln!(session.err, " {layer} {step} ");
    }
    let _ = writeln!(session.err, " {service} Pulled ");
    Ok(())
}

/// The variables of the caller, and those of `.env` beside the file that the caller has not.
fn environment(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::new();
    let path = folder.join(".env");
    if path.exists() {
        let of_file = |error: dotenvy::Error| format!("failed to read {}: {error}", path.display());
        for variable in dotenvy::from_path_iter(&path).map_err(of_file)? {
            let (name, value) = variable.map_err(of_file)?;
            environment.insert(name, value);
        }
    }
    environment.extend(std::env::vars());
    Ok(environment)
}

/// The services of a file, and what is told of it beside.
fn services(
    path: &Path,
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<(BTreeMap<String, Service>, Vec<String>), String> {
    let unread = |error: serde_yaml::Error| format!("failed to parse {}: yaml: {error}", path.display());
    let mut whole: Value = serde_yaml::from_str(text).map_err(unread)?;
    let mut unset = BTreeSet::new();
    fill(&mut whole, environment, &mut unset);
    let invalid = |why: String| format!("validating {}: {why}", path.display());
    let file: File = serde_yaml::from_value(whole).map_err(|error| invalid(error.to_string()))?;
    if let Some(key) = file.others.keys().find(|key| !key.starts_with("x-")) {
        return Err(match KEYS_NOT_PLAYED.contains(&key.as_str()) {
            true => format!("ghost: {key} of a Compose file is not played"),
            false => invalid(format!("additional properties '{key}' not allowed")),
        });
    }
    for (name, service) in &file.services {
        if let Some(key) = service.others.keys().find(|key| !key.starts_with("x-")) {
            return Err(match SERVICE_KEYS_NOT_PLAYED.contains(&key.as_str()) {
                true => format!("ghost: {key} of a service is not played"),
                false => invalid(format!("services.{name} additional properties '{key}' not allowed")),
            });
        }
    }
    let warning = |name| {
        format!("level=warning msg=\"The \\\"{name}\\\" variable is not set. Defaulting to a blank string.\"")
    };
    Ok((file.services, unset.into_iter().map(warning).collect()))
}

/// Puts in what variables stand for, in all values; those that have none are added to `unset`.
fn fill(value: &mut Value, environment: &BTreeMap<String, String>, unset: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            let filled = shellexpand::env_with_context_no_errors(text, |name: &str| {
                let has_default = text.contains(&format!("${{{name}:-"));
                match environment.get(name) {
                    Some(value) if !value.is_empty() || !has_default => Some(value.clone()),
                    _ if has_default => None,
                    _ => {
                        unset.insert(name.to_owned());
                        Some(String::new())
                    }
                }
            });
            *text = filled.into_owned();
        }
        Value::Sequence(values) => values.iter_mut().for_each(|value| fill(value, environment, unset)),
        Value::Mapping(values) => values.values_mut().for_each(|value| fill(value, environment, unset)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        text: &str,
        environment: &[(&str, &str)],
    ) -> Result<(BTreeMap<String, Service>, Vec<String>), String> {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        services(Path::new("/p/compose.yaml"), text, &environment)
    }

    fn project(text: &str, environment: &[(&str, &str)]) -> Project {
        Project {
            name: "lava-1".into(),
            folder: "/p".into(),
            services: read(text, environment).unwrap().0,
            environment: [("OWN".to_owned(), "caller's".to_owned())].into(),
        }
    }

    #[test]
    fn a_service_is_made_with_what_its_file_says() {
        let text = r#"
services:
  web:
    image: registry.example.org/lab/tests
    command: sh -c 'echo $GREETING $$HOME ${COUNT:-3}'
    environment: {GREETING: "${GREETING}", NUMBER: 1, ON: true, OWN: , NOBODY: }
    volumes: ["./data/in:/data:ro"]
    working_dir: /data
"#;
        let project = project(text, &[("GREETING", "hello")]);
        let create = project.create("web", &project.services["web"]).unwrap();
        assert_eq!(create.command, ["sh", "-c", "echo hello $HOME 3"]);
        assert_eq!(create.environment, ["GREETING=hello", "NUMBER=1", "ON=true", "OWN=caller's"]);
        assert_eq!(create.name.as_deref(), Some("lava-1-web-1"));
        assert_eq!(create.folder.as_deref(), Some("/data"));
        let mount = &create.mounts[0];
        assert_eq!(
            (mount.source.as_str(), mount.target.as_str(), mount.read_only),
            ("/p/data/in", "/data", true)
        );
    }

    #[test]
    fn a_list_of_variables_says_the_same_as_their_names_do() {
        let project = project("services: {a: {image: x, environment: [A=1, OWN, NOBODY]}}", &[]);
        let create = project.create("a", &project.services["a"]).unwrap();
        assert_eq!(create.environment, ["A=1", "OWN=caller's"]);
    }

    #[test]
    fn a_variable_that_is_not_set_is_blank_and_told_of() {
        let (services, warnings) = read("services: {a: {image: 'x$NOPE'}}", &[]).unwrap();
        assert_eq!(services["a"].image.as_deref(), Some("x"));
        assert!(warnings[0].contains("The \\\"NOPE\\\" variable is not set"), "{warnings:?}");
        assert!(read("services: {a: {image: '${NOPE:-x}'}}", &[]).unwrap().1.is_empty());
    }

    /// As Compose 2.40.3 printed them, but for the last two.
    #[test]
    fn a_wrong_file_is_refused() {
        for (text, says) in [
            (
                "services: {web: {image: a, foo: ls}}",
                "validating /p/compose.yaml: services.web additional properties 'foo' not allowed",
            ),
            ("frob: {}", "validating /p/compose.yaml: additional properties 'frob' not allowed"),
            ("services: {web: {image: a, depends_on: [b]}}", "ghost: depends_on of a service is not played"),
            ("networks: {}", "ghost: networks of a Compose file is not played"),
        ] {
            assert_eq!(read(text, &[]).unwrap_err(), says);
        }
        assert!(read("services: [", &[]).unwrap_err().starts_with("failed to parse /p/compose.yaml: yaml: "));
        let project = project("services: {web: {command: ls}}", &[]);
        let without_image = project.create("web", &project.services["web"]).unwrap_err();
        assert_eq!(
            without_image.0,
            "service \"web\" has neither an image nor a build context specified: invalid compose project"
        );
    }

    #[test]
    fn a_projects_name_is_one_of_dockers() {
        assert!(is_project_name("lava-17-1-4-test-service-web_1"));
        for wrong in ["", "X", "a.b", "-a"] {
            assert!(!is_project_name(wrong), "{wrong}");
        }
    }
}
