//! The Compose tool: it starts and stops the topology, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::error::{Error, Result};
use crate::programs::has_program;
use crate::root::MARK;
use crate::scenario::Problem;
use crate::stack::docker::Engine;
use crate::stack::docker::host::Host;
use crate::stack::docker::objects::tail;
use crate::stack::sweep;

/// How long the tool may take to tell its version.
const ASK: Duration = Duration::from_secs(20);
/// How long it may take to start or stop a stack.
const WORK: Duration = Duration::from_secs(300);

/// What helps when the tool and the engine do not understand each other.
const NEWER: &str = "Compose v1 (`docker-compose` 1.x) is not made for new engines: install the plugin (Docker's own \
                     packages: `docker-compose-plugin`; Debian 13 and newer: `docker-compose`)";

/// The tool as it is found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    command: Vec<String>,
}

/// A topology under a name of its own.
#[derive(Clone)]
pub struct Project {
    /// Compose project: prefix of the names of all its objects.
    pub name: String,
    /// `compose.yaml`, with labels when a stack is started with it, then what overrides it.
    pub files: Vec<PathBuf>,
    /// What the files ask the environment for. Not logged: tokens are in it.
    pub environment: Vec<(String, String)>,
}

impl std::fmt::Debug for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the environment: tokens are in it.
        f.debug_struct("Project")
            .field("name", &self.name)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Compose {
    /// Finds it: the plugin (`docker compose`), else the program
    /// (`docker-compose`). Looks where they are installed: to ask each for its
    /// version would take longer than starting a stack with it.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when there is neither.
    pub async fn find() -> Result<Self> {
        let plugin = Self { command: vec!["docker".into(), "compose".into()] };
        let program = Self { command: vec!["docker-compose".into()] };
        if has_program("docker")
            && plugin_folders().iter().any(|folder| folder.join("docker-compose").is_file())
        {
            return Ok(plugin);
        }
        if has_program("docker-compose") {
            return Ok(program);
        }
        // A plugin at a place that is not known.
        match version(&plugin.command).await {
            Some(_) => Ok(plugin),
            None => Err(Error::infrastructure(
                "no Compose tool: neither `docker compose` nor `docker-compose` works; install one of them (Debian: `apt-get install docker-compose`; Docker's own packages: `docker-compose-plugin`)",
            )),
        }
    }

    /// How it is called, and its version.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not work.
    pub async fn describe(&self) -> Result<String> {
        let name = self.command.join(" ");
        match version(&self.command).await {
            Some(version) => Ok(format!("{name} {version}")),
            None => Err(Error::infrastructure(format!("`{name} version` does not work; install it again"))),
        }
    }

    /// Starts all services, `workers` workers among them, without waiting for
    /// them to be ready.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] with the end of what the tool said.
    pub async fn up(&self, engine: &Engine, project: &Project, workers: usize) -> Result<()> {
        let scale = format!("worker={workers}");
        self.run(engine, project, &["up", "--detach", "--no-build", "--scale", &scale], "start the stack")
            .await
            .map(|_| ())
    }

    /// Stops and removes everything of it, volumes included.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] with the end of what the tool said.
    pub async fn down(&self, engine: &Engine, project: &Project) -> Result<()> {
        let arguments = ["down", "--volumes", "--remove-orphans", "--timeout", "1"];
        self.run(engine, project, &arguments, "take the stack down").await.map(|_| ())
    }

    /// Has the tool read the very files of a run, those of the topology below `root` with
    /// `overlay` of that folder over it, and ask the engine about the project; gives what it
    /// warned about.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not understand the files, or can't talk to the engine.
    pub async fn try_files(&self, engine: &Engine, root: &Path, overlay: Option<&str>) -> Result<String> {
        let run = sweep::new_run_name();
        let folder = sweep::temporary_folder(&run)?;
        let file = write_labelled(root, &sweep::labels(&run, sweep::Purpose::Run), folder.path())?;
        let overlay = overlay.map(|overlay| root.join("compose").join(overlay));
        let files = [file].into_iter().chain(overlay).collect();
        let project = Project { name: sweep::project(&run), files, environment: Vec::new() };
        let read = self.run(engine, &project, &["config", "--quiet"], "read the files of a run").await?;
        let what = "ask the engine about a stack";
        match self.run(engine, &project, &["ps", "--quiet"], what).await {
            Ok(asked) => Ok([read, asked].concat()),
            Err(error) => Err(error.with_advice(NEWER)),
        }
    }

    /// Runs the tool in a task of its own, which goes on when its caller has
    /// lost interest: an engine that was asked for a container makes it, also
    /// after who asked was killed, and then nobody would remove it. What is
    /// next done to the project waits for the task.
    ///
    /// Gives what it said beside its outcome.
    async fn run(
        &self,
        engine: &Engine,
        project: &Project,
        arguments: &[&str],
        what: &str,
    ) -> Result<String> {
        let (tool, host, project) = (self.command.clone(), engine.host().clone(), project.clone());
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let attempted = format!("{what} with `{}`", tool.join(" "));
        let turn = turn(&project.name);
        let task = tokio::spawn(async move {
            let _turn = turn.lock().await;
            execute(&tool, &host, &project, &arguments).await
        });
        match task.await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(Failure { found, said })) => Err(Error::failed(attempted, found).with_last_words(said)),
            Err(error) => Err(Error::failed(attempted, error)),
        }
    }
}

/// Whose turn it is with a project.
fn turn(project: &str) -> Arc<tokio::sync::Mutex<()>> {
    static TURNS: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Arc::clone(turns.entry(project.to_owned()).or_default())
}

/// Why the tool did not do what it was told, and the last lines that it printed.
struct Failure {
    found: String,
    said: String,
}

impl Failure {
    fn silent(found: impl ToString) -> Self {
        Self { found: found.to_string(), said: String::new() }
    }
}

/// Runs the tool to its end; gives what it said on standard error.
async fn execute(
    tool: &[String],
    host: &Host,
    project: &Project,
    arguments: &[String],
) -> Result<String, Failure> {
    let (program, first) = tool.split_first().ok_or_else(|| Failure::silent("it has no name"))?;
    let mut command = Command::new(program);
    command.args(first).arg("--project-name").arg(&project.name);
    for file in &project.files {
        command.arg("--file").arg(file);
    }
    command.args(arguments);
    // The user's own settings for their own projects.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COMPOSE_") {
            command.env_remove(name);
        }
    }
    host.hand_to(&mut command);
    command
        // v1 then speaks the engine's own version of the API, whoever has built it. v2 always does.
        .env("COMPOSE_API_VERSION", "auto")
        .envs(project.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C in the terminal is for us to act on, and
        // the plugin is a child of the command that we start.
        .process_group(0);
    tracing::debug!(project = project.name, ?arguments, "compose");
    let child = command.spawn().map_err(Failure::silent)?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
    let output = tokio::time::timeout(WORK, child.wait_with_output()).await;
    let output = match output {
        Err(_) => return Err(Failure::silent(format!("it was not done after {} s", WORK.as_secs()))),
        Ok(output) => output.map_err(Failure::silent)?,
    };
    group.0 = None;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Failure {
        found: format!("it ended with {}", output.status),
        said: tail(&String::from_utf8_lossy(&said), 20),
    })
}

/// Kills a process group when it is dropped before its work is done: at the
/// deadline, or when this process ends.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// Where the `docker` command looks for plugins.
fn plugin_folders() -> Vec<PathBuf> {
    let config = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
    config
        .into_iter()
        .map(|config| config.join("cli-plugins"))
        .chain(
            ["/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"]
                .map(|folder| Path::new(folder).join("docker/cli-plugins")),
        )
        .collect()
}

async fn version(command: &[String]) -> Option<String> {
    let (program, first) = command.split_first()?;
    let mut asked = Command::new(program);
    asked.args(first).args(["version", "--short"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ASK, asked.output()).await.ok()?.ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // Without the plugin, `docker compose` may print its help and succeed.
    (output.status.success() && version.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()))
        .then_some(version)
}

/// Judges the topology below `root`, as far as we read it ourselves.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(root: &Path) -> Result<(), Problem> {
    let path = root.join(MARK);
    let text = std::fs::read_to_string(&path).map_err(|error| Problem::new(MARK, error.to_string()))?;
    serde_yaml::from_str::<serde_yaml::Value>(&text).map_err(|error| Problem::yaml(MARK, &text, &error))?;
    with_labels(&text, &[]).map_err(|why| Problem::new(MARK, why)).map(|_| ())
}

/// The Compose file `file` with labels on all that it defines. A second file laid over it
/// would not do: of labels in two files the plugin makes a list, and then refuses it.
///
/// # Errors
/// [`Error::Usage`] when it is no Compose file.
fn labelled(file: &Path, labels: &[(String, String)]) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Usage(format!("could not read {}: {error}", file.display())))?;
    with_labels(&text, labels).map_err(|why| Error::Usage(format!("{}: {why}", file.display())))
}

/// Writes that file into `folder`; its path.
///
/// # Errors
/// As [`labelled`]; [`Error::Infrastructure`] when it can't be written.
pub fn write_labelled(root: &Path, labels: &[(String, String)], folder: &Path) -> Result<PathBuf> {
    let topology = labelled(&root.join(MARK), labels)?;
    let file = folder.join("compose.yaml");
    std::fs::write(&file, topology)
        .map_err(|error| Error::failed(format!("write {}", file.display()), error))?;
    Ok(file)
}

fn with_labels(text: &str, labels: &[(String, String)]) -> Result<String, String> {
    let mut file: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    file.apply_merge().map_err(|error| error.to_string())?;
    let mut file = serde_json::to_value(file).map_err(|error| error.to_string())?;
    if !file.get("services").is_some_and(Value::is_object) {
        return Err("it has no services".into());
    }
    for section in ["services", "networks", "volumes"] {
        let Some(things) = file.get_mut(section).and_then(Value::as_object_mut) else { continue };
        for (name, thing) in things {
            // A network or volume without settings of its own.
            if thing.is_null() {
                *thing = json!({});
            }
            let own = thing
                .as_object_mut()
                .ok_or_else(|| format!("{section}: {name} is not a mapping"))?
                .entry("labels")
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .ok_or_else(|| format!("{section}: the labels of {name} are not a mapping"))?;
            own.extend(labels.iter().map(|(key, value)| (key.clone(), json!(value.replace('$', "$$")))));
        }
    }
    // JSON is YAML.
    serde_json::to_string_pretty(&file).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_file_defines_is_labelled() {
        let text = "x-y: &c {init: true, labels: {r: '${R:-by-hand}', z: w}}\nservices:\n  a: {<<: *c, image: x}\n  \
                    b: {image: y}\nnetworks:\n  lab:\nvolumes:\n  database: {labels: {r: q}}\n";
        let labels = [("r".to_owned(), "r$1".to_owned())];
        let found: Value = serde_json::from_str(&with_labels(text, &labels).unwrap()).unwrap();
        let thing = json!({"labels": {"r": "r$$1"}});
        assert_eq!(
            found["services"],
            json!({
                "a": {"init": true, "image": "x", "labels": {"r": "r$$1", "z": "w"}},
                "b": {"image": "y", "labels": {"r": "r$$1"}},
            })
        );
        assert_eq!(
            (&found["networks"], &found["volumes"]),
            (&json!({"lab": thing}), &json!({"database": thing}))
        );
    }

    #[test]
    fn what_is_no_topology_is_refused() {
        for text in ["volumes: {}", ": :", "services: {a: 1}", "services: {a: {labels: [b=c]}}"] {
            assert!(with_labels(text, &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn the_topology_keeps_what_its_comment_promises() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(MARK);
        let text = std::fs::read_to_string(file).unwrap();
        let found: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        // The plugin warns about it.
        assert!(found.get("version").is_none());
        // By hand too, `meta-lava clean` knows all of it.
        for section in ["services", "networks", "volumes"] {
            for (name, mut thing) in found[section].as_mapping().unwrap().clone() {
                thing.apply_merge().unwrap();
                assert!(thing["labels"].get(crate::stack::sweep::RUN).is_some(), "{section}: {name:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_command_that_is_no_compose_tool_is_not_taken_for_one() {
        assert_eq!(version(&["true".to_owned()]).await, None);
        assert_eq!(version(&["/nonexistent/docker-compose".to_owned()]).await, None);
        assert_eq!(
            version(&["echo".to_owned(), "v2.1.0".to_owned()]).await.as_deref(),
            Some("v2.1.0 version --short")
        );
    }
}
