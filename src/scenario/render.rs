//! Renders a scenario: the job to submit, the boards to play, the devices to register.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::Value as JinjaValue;
use serde_yaml::{Mapping, Value};

use super::problem::Problem;
use super::{JobSource, Matrix, Scenario, dictionary, tag};

/// A scenario as LAVA and the ghosts get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The job, YAML.
    pub job: String,
    /// What the ghosts' daemon plays.
    pub boards: Vec<Board>,
    /// What LAVA is told of.
    pub devices: Vec<Device>,
}

/// A board for the ghosts' daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Its name.
    pub name: String,
    /// TCP ports of its serial ports, in order.
    pub ports: Vec<u16>,
    /// Text of its `ghost.yaml`.
    pub ghost: String,
}

/// A device for LAVA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its hostname: the board's name.
    pub hostname: String,
    /// Its device-type.
    pub device_type: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its dictionary, Jinja2.
    pub dictionary: String,
}

/// Where the artifacts are, as LAVA reaches them.
pub const WORLD: &str = "http://world";

impl Matrix {
    /// First of the TCP ports that belong to `scenario`: the same ones whatever else runs.
    #[must_use]
    pub fn first_port(&self, scenario: &Scenario) -> u16 {
        // Above 20048, where an NFS server's mountd is.
        const FIRST: usize = 21_000;
        const EACH: usize = 16; // as many as a board can have
        let before = self.scenarios.iter().take_while(|other| other.name != scenario.name).count();
        u16::try_from(FIRST + before * EACH).unwrap_or(u16::MAX - 16)
    }

    /// Renders `scenario` on its own ports.
    ///
    /// # Errors
    /// What is wrong with the scenario or its family, and where.
    pub fn render(&self, scenario: &Scenario) -> Result<Rendered, Problem> {
        let mut next_port = self.first_port(scenario);
        let boards: Vec<Board> = scenario
            .boards
            .iter()
            .map(|board| {
                let ports = (0..board.uarts).map(|_| {
                    next_port = next_port.saturating_add(1);
                    next_port - 1
                });
                Board { name: board.name.clone(), ports: ports.collect(), ghost: board.text.clone() }
            })
            .collect();
        let context = context(scenario, &boards);
        let file = scenario.folder.join("scenario.yaml");
        let devices = boards
            .iter()
            .map(|board| {
                let mut variables = generated(board);
                for (name, value) in &scenario.dictionary {
                    let value = self.expand(value, &context).map_err(|error| {
                        let name = name.as_str().unwrap_or("?");
                        Problem::new(&file, format!("dictionary: {name}: {}", describe(&error)))
                    })?;
                    variables.insert(name.clone(), value);
                }
                Ok(Device {
                    hostname: board.name.clone(),
                    device_type: scenario.device_type.clone(),
                    tags: vec![board.name.clone()],
                    dictionary: dictionary::write(&scenario.device_type, &variables)
                        .map_err(|why| Problem::new(&file, why))?,
                })
            })
            .collect::<Result<Vec<_>, Problem>>()?;
        let job = self.job(scenario, &context)?;
        Ok(Rendered { job, boards, devices })
    }

    fn job(&self, scenario: &Scenario, context: &BTreeMap<String, JinjaValue>) -> Result<String, Problem> {
        let (path, text) = match &scenario.job {
            JobSource::Whole(text) => (scenario.folder.join("job.yaml"), text.clone()),
            JobSource::Template(name) => {
                let path = Path::new("jobs/families").join(name);
                let rendered =
                    self.templates.get_template(name).and_then(|template| template.render(context));
                let text = rendered.map_err(|error| {
                    let mut problem = template_problem(&error, &path, None);
                    problem.message = format!("for {}: {}", scenario.id(), problem.message);
                    problem
                })?;
                (path, text)
            }
        };
        let whole = matches!(scenario.job, JobSource::Whole(_));
        let place = |message: String| {
            let message =
                if whole { message } else { format!("as rendered for {}: {message}", scenario.id()) };
            Problem::new(&path, message)
        };
        let job: Mapping = serde_yaml::from_str(&text).map_err(|error| {
            let found = Problem::yaml(&path, &error);
            match found.at {
                // Lines of what was rendered are not lines of the template: show the text itself.
                Some((line, column)) if !whole => place(format!(
                    "line {line}, column {column}: {}: `{}`",
                    found.message,
                    text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim()
                )),
                _ => found,
            }
        })?;
        for key in ["job_name", "actions", "timeouts", "visibility"] {
            if !job.contains_key(key) {
                return Err(place(format!("a LAVA job has a `{key}`, and this one has not")));
            }
        }
        let found = job.get("device_type").and_then(Value::as_str).unwrap_or_default();
        if found != scenario.device_type {
            return Err(place(format!(
                "the job asks for device_type `{found}`, and the scenario is of `{}`",
                scenario.device_type
            )));
        }
        match scenario.boards.first() {
            Some(board) => tag::add(&text, &job, &board.name).map_err(place),
            None => Ok(text),
        }
    }

    /// Strings in dictionaries are templates too, so that they can name the board.
    fn expand(
        &self,
        value: &Value,
        context: &BTreeMap<String, JinjaValue>,
    ) -> Result<Value, minijinja::Error> {
        Ok(match value {
            Value::String(text) if text.contains("{{") || text.contains("{%") => {
                Value::String(self.templates.render_str(text, context)?)
            }
            Value::Sequence(items) => Value::Sequence(
                items.iter().map(|item| self.expand(item, context)).collect::<Result<_, _>>()?,
            ),
            Value::Mapping(items) => Value::Mapping(
                items
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), self.expand(item, context)?)))
                    .collect::<Result<_, minijinja::Error>>()?,
            ),
            other => other.clone(),
        })
    }
}

/// What every device dictionary says, unless the scenario says otherwise.
fn generated(board: &Board) -> Mapping {
    let mut variables = Mapping::new();
    let mut set = |name: &str, value: Value| variables.insert(name.into(), value);
    let telnet = |port: &u16| Value::from(format!("telnet 127.0.0.1 {port}"));
    if let [port] = board.ports.as_slice() {
        set("connection_command", telnet(port));
    } else {
        // More than one serial port: LAVA wants names, commands and tags apart.
        let name = |number: usize| format!("uart{number}");
        let ports = || board.ports.iter().enumerate();
        set("connection_list", ports().map(|(n, _)| name(n)).collect::<Vec<_>>().into());
        let commands: Mapping = ports().map(|(n, port)| (name(n).into(), telnet(port))).collect();
        set("connection_commands", commands.into());
        let tags: Mapping = ports()
            .map(|(n, _)| {
                let tags = if n == 0 { vec!["primary", "telnet"] } else { vec!["telnet"] };
                (name(n).into(), tags.into())
            })
            .collect();
        set("connection_tags", tags.into());
    }
    let name = &board.name;
    set("hard_reset_command", format!("ghost power reset {name}").into());
    set("power_on_command", format!("ghost power on {name}").into());
    set("power_off_command", format!("ghost power off {name}").into());
    // Templates slow their typing down for real boards' sake; a scenario takes
    // that back with a null, and then the template's own figure counts.
    set("boot_character_delay", 0.into());
    set("test_character_delay", 0.into());
    variables
}

fn context(scenario: &Scenario, boards: &[Board]) -> BTreeMap<String, JinjaValue> {
    let mut context: BTreeMap<String, JinjaValue> = scenario
        .with
        .iter()
        .filter_map(|(name, value)| Some((name.as_str()?.to_owned(), JinjaValue::from_serialize(value))))
        .collect();
    let names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
    let mut set = |name: &str, value: JinjaValue| context.insert(name.into(), value);
    set("name", JinjaValue::from(scenario.name.as_str()));
    set("suite", JinjaValue::from(scenario.suite.as_str()));
    set("board", JinjaValue::from(names.first().copied().unwrap_or_default()));
    set("boards", JinjaValue::from_serialize(&names));
    set("device_type", JinjaValue::from(scenario.device_type.as_str()));
    set("world", JinjaValue::from(WORLD));
    context
}

/// What minijinja found, with the place in the template. `path` is the file that
/// was asked for; the error may name another one that it includes.
pub(super) fn template_problem(error: &minijinja::Error, path: &Path, text: Option<&str>) -> Problem {
    // An error in an included template is the cause of the one in the template that includes it.
    if let Some(inner) = std::error::Error::source(error).and_then(|source| source.downcast_ref()) {
        return template_problem(inner, path, None);
    }
    let path = match error.name() {
        Some(name) if !path.ends_with(name) && name != "<string>" => Path::new("jobs/families").join(name),
        _ => path.to_path_buf(),
    };
    let text = text.or_else(|| error.template_source());
    let column = || {
        let start = error.range()?.start;
        let before = text?.get(..start)?;
        Some(before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
    };
    let at = error.line().map(|line| (line, column().unwrap_or(1)));
    Problem::at(path, at, describe(error))
}

/// The message of a template's error, with the name that was undefined.
fn describe(error: &minijinja::Error) -> String {
    let mut message = error.kind().to_string();
    if let Some(detail) = error.detail() {
        message = format!("{message}: {detail}");
    }
    if error.kind() == minijinja::ErrorKind::UndefinedError
        && let Some(source) = error.template_source()
        && let Some(range) = error.range()
        && let Some(expression) = source.get(range)
    {
        message = format!("{message}: `{}`", expression.trim());
    }
    message
}
