//! Renders a scenario: the job to submit, the boards to play, the devices to register.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::Value as JinjaValue;
use serde_yaml::{Mapping, Value};

use meta_lava_ghost::daemon::Guest;
use meta_lava_ghost::peripheral::usb_path;

use super::board::{Changed, Ghost};
use super::problem::Problem;
use super::{JobSource, Matrix, Role, Scenario, dictionary, tag};
use crate::lava::series::Series;

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
    /// Whether it is switched off only when its job ends.
    pub off_is_the_end: bool,
    /// Kind of its firmware.
    pub firmware: String,
    /// What it is, as its ghost reads it.
    pub ghost: String,
    /// What is wrong with it on purpose, a line each.
    pub faults: Vec<String>,
    /// Of a guest: on whose device it is. LAVA has none of its name then.
    pub guest: Option<Guest>,
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
        let of = |scenario: &Scenario| {
            let own = scenario.roles.iter().filter(|role| role.on.is_none());
            let uarts: usize = own.map(|role| role.ghost.uarts * role.boards.len()).sum();
            uarts.div_ceil(EACH).max(1) * EACH
        };
        let before: usize =
            self.scenarios.iter().take_while(|other| other.name != scenario.name).map(of).sum();
        u16::try_from(FIRST + before).unwrap_or(u16::MAX - 16)
    }

    /// Renders `scenario` for a LAVA of `series`, on its own ports.
    ///
    /// # Errors
    /// What is wrong with the scenario, a board or the family, and where.
    pub fn render(&self, scenario: &Scenario, series: Series) -> Result<Rendered, Problem> {
        let job = self.job(scenario, &context(scenario))?;
        let mut next_port = self.first_port(scenario);
        let (mut boards, mut devices) = (Vec::new(), Vec::new());
        for role in &scenario.roles {
            let ghost = role.on(series).map_err(|changed| {
                let message = format!("with LAVA {series}: change: {}", changed.message);
                Problem::new(scenario.folder.join("scenario.yaml"), message)
            })?;
            if let Some((_, host)) = &role.on {
                boards.extend(role.boards.iter().map(|name| guest(name, host, role, &ghost)));
                continue;
            }
            for name in &role.boards {
                let ports = (0..ghost.uarts).map(|_| {
                    next_port = next_port.saturating_add(1);
                    next_port - 1
                });
                let mut board = Board {
                    name: name.clone(),
                    ports: ports.collect(),
                    off_is_the_end: false,
                    firmware: ghost.firmware.clone(),
                    ghost: ghost.text.clone(),
                    faults: ghost.faults.clone(),
                    guest: None,
                };
                let device = self.device(scenario, role, series, &board)?;
                board.off_is_the_end = is_off_the_end(&device.dictionary, &job);
                devices.push(device);
                boards.push(board);
            }
        }
        Ok(Rendered { job, boards, devices })
    }

    fn device(
        &self,
        scenario: &Scenario,
        role: &Role,
        series: Series,
        board: &Board,
    ) -> Result<Device, Problem> {
        let file = scenario.folder.join("scenario.yaml");
        let mut context = context(scenario);
        context.insert("board".into(), JinjaValue::from(board.name.as_str()));
        context.insert("port".into(), JinjaValue::from(board.ports.first().copied()));
        context.insert("usb_path".into(), JinjaValue::from(usb_path(&board.name)));
        context.insert("device_type".into(), JinjaValue::from(role.device_type()));
        let mut variables = generated(board);
        let of_series = role.board.on(series).map(|of| (&role.board.path, &of.dictionary));
        let dictionaries = std::iter::once((&role.board.path, &role.board.dictionary))
            .chain(of_series)
            .chain([(&file, &role.dictionary)]);
        for (path, dictionary) in dictionaries {
            for (name, value) in dictionary {
                let value = self.expand(value, &context).map_err(|error| {
                    let name = name.as_str().unwrap_or("?");
                    Problem::new(path, format!("dictionary: {name}: {}", describe(&error)))
                })?;
                variables.insert(name.clone(), value);
            }
        }
        let device_type = role.device_type().to_owned();
        Ok(Device {
            hostname: board.name.clone(),
            tags: vec![role_tag(scenario, role)],
            dictionary: dictionary::write(&device_type, &variables)
                .map_err(|why| Problem::new(&file, why))?,
            device_type,
        })
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
            let found = Problem::yaml(&path, &text, &error);
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
        tagged(scenario, &text, &job).map_err(place)
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

impl Role {
    /// Its board with a LAVA of `series`.
    fn on(&self, series: Series) -> Result<Ghost, Changed> {
        let mut changes: Vec<&Mapping> = self.board.on(series).map(|of| &of.change).collect();
        if changes.iter().all(|change| change.is_empty()) {
            return Ok(self.ghost.clone());
        }
        changes.push(&self.change);
        self.board.changed(&changes)
    }
}

/// A job's own part of the board of `host`, which is `ghost`.
fn guest(name: &str, host: &str, role: &Role, ghost: &Ghost) -> Board {
    let role = role.name.clone().unwrap_or_default();
    Board {
        name: name.to_owned(),
        ports: Vec::new(),
        off_is_the_end: false,
        firmware: ghost.firmware.clone(),
        ghost: ghost.text.clone(),
        faults: Vec::new(),
        guest: Some(Guest { of: host.to_owned(), role }),
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
    // How the ghosts' own tools find their board.
    match board.firmware.as_str() {
        "minimal" => {
            let flash = |part: &str| format!("ghost flash {name} {} {{{part}}}", part.to_lowercase());
            set("flasher_deploy_commands", vec![flash("KERNEL"), flash("ROOT")].into());
        }
        "qemu" => {
            set("extra_options", vec![format!("-name {name}")].into());
        }
        _ => {}
    }
    variables
}

/// Whether a board with this dictionary is switched off only at the end of this job. When in
/// doubt it is not: that costs a second at the end of the job, and the other mistake the job.
fn is_off_the_end(dictionary: &str, job: &str) -> bool {
    // Where LAVA has a board switched off in the middle of a job: `actions/commands.py`,
    // `boot/recovery.py`, `boot/grub.py`, `boot/uuu.py` and `deploy/mps.py` of lava_dispatcher.
    const IN_THE_MIDDLE: [&str; 5] = ["power_off", "recovery", "boot_finished", "uuu", "mps"];
    let elsewhere = |line: &str| {
        // A placeholder of flashing commands, which come before the boot unless there are two.
        let placeholder = line.contains("POWER_OFF_COMMAND") && job.matches("deploy:").count() > 1;
        line.contains("power off") && !line.starts_with("{% set power_off_command ") || placeholder
    };
    !dictionary.lines().any(elsewhere) && !IN_THE_MIDDLE.iter().any(|word| job.contains(word))
}

/// The tag by which a role's jobs find its boards, and no others: a board's own name, or,
/// where there are roles, one that all boards of the role have.
fn role_tag(scenario: &Scenario, role: &Role) -> String {
    match (&role.name, role.boards.first()) {
        (Some(role), _) => format!("{}-{role}", scenario.name),
        (None, Some(board)) => board.clone(),
        (None, None) => scenario.name.clone(),
    }
}

/// The job's text with the tags of the scenario's boards, if it is a job for them.
fn tagged(scenario: &Scenario, text: &str, job: &Mapping) -> Result<String, String> {
    if let [role @ Role { name: None, .. }] = scenario.roles.as_slice() {
        if tag::roles(job).is_some() {
            return Err("the job has roles: the scenario needs `roles`, with a board for each".into());
        }
        let found = job.get("device_type").and_then(Value::as_str).unwrap_or_default();
        if found != role.device_type() {
            return Err(format!(
                "the job asks for device_type `{found}`, and the scenario's board is a `{}`",
                role.device_type()
            ));
        }
        return tag::add(text, job, &role_tag(scenario, role));
    }
    let Some(found) = tag::roles(job) else {
        return Err("the scenario has roles, and the job has none in `protocols.lava-multinode.roles`".into());
    };
    let mut edited = text.to_owned();
    for role in &scenario.roles {
        let name = role.name.as_deref().unwrap_or_default();
        let Some(asked) = found.get(name).and_then(Value::as_mapping) else {
            return Err(format!("the scenario has the role `{name}`, and the job has not"));
        };
        if let Some((host, _)) = &role.on {
            let says = |key| asked.get(key).and_then(Value::as_str);
            if says("connection").is_none() || says("host_role") != Some(host) {
                return Err(format!(
                    "the scenario's role `{name}` is on `{host}`'s device, and the job's has no `connection` and \
                     `host_role: {host}`"
                ));
            }
        }
        let (kind, count) = (role.device_type(), role.boards.len());
        let asks_kind = asked.get("device_type").and_then(Value::as_str).unwrap_or_default();
        if role.on.is_none() && asks_kind != kind {
            return Err(format!(
                "the job asks for device_type `{asks_kind}` for the role `{name}`, and the scenario's board \
                 is a `{kind}`"
            ));
        }
        let asks_count = asked.get("count").and_then(Value::as_u64).unwrap_or_default();
        if asks_count != count as u64 {
            return Err(format!(
                "the job asks for {asks_count} boards for the role `{name}`, and the scenario has {count}"
            ));
        }
        if role.on.is_none() {
            edited = tag::add_to_role(&edited, name, &role_tag(scenario, role))?;
        }
    }
    // A role may also be one on another role's device, without one of its own.
    let needs_a_board = |(name, asked): &(&Value, &Value)| {
        asked.get("device_type").is_some()
            && !scenario.roles.iter().any(|role| role.name.as_deref() == name.as_str())
    };
    match found.iter().find(needs_a_board) {
        Some((name, _)) => {
            Err(format!("the job has the role `{}`, and the scenario has not", name.as_str().unwrap_or("?")))
        }
        None => Ok(edited),
    }
}

fn context(scenario: &Scenario) -> BTreeMap<String, JinjaValue> {
    let mut context: BTreeMap<String, JinjaValue> = scenario
        .with
        .iter()
        .filter_map(|(name, value)| Some((name.as_str()?.to_owned(), JinjaValue::from_serialize(value))))
        .collect();
    let names: Vec<&str> = scenario.boards().collect();
    let roles: BTreeMap<&str, JinjaValue> = scenario
        .roles
        .iter()
        .filter_map(|role| {
            let known = minijinja::context! {
                device_type => role.device_type(), count => role.boards.len(), boards => role.boards,
            };
            Some((role.name.as_deref()?, known))
        })
        .collect();
    let mut set = |name: &str, value: JinjaValue| context.insert(name.into(), value);
    set("name", JinjaValue::from(scenario.name.as_str()));
    set("suite", JinjaValue::from(scenario.suite.as_str()));
    set("board", JinjaValue::from(names.first().copied().unwrap_or_default()));
    set("boards", JinjaValue::from_serialize(&names));
    set("roles", JinjaValue::from_serialize(&roles));
    set("device_type", JinjaValue::from(scenario.device_types().first().copied().unwrap_or_default()));
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
