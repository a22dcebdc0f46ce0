//! Reads `jobs/`.
//!
//! ```text
//! jobs/families/<family>/job.yaml      a LAVA job, as a minijinja template
//! jobs/families/<family>/family.yaml   about, with, dictionary: what its scenarios share
//! jobs/families/<other>/…              what the templates of families include or import
//! jobs/<suite>/suite.yaml              about: one line
//! jobs/<suite>/<name>/scenario.yaml    family, device_type, with, dictionary, tags, skip, timeout
//! jobs/<suite>/<name>/ghost.yaml       the board
//! jobs/<suite>/<name>/job.yaml         a whole job, instead of a family
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_yaml::{Mapping, Value};

use super::problem::{Problem, key_position, refuse, relative};
use super::{BoardSource, JobSource, Scenario, Skip};
use crate::error::Result;
use crate::lava::series::Range;

/// The folder of `jobs/` that is no suite.
const FAMILIES: &str = "families";

/// How long a job may take when its scenario does not say.
const TIMEOUT: Duration = Duration::from_secs(180);

/// What a scenario may say instead, in seconds: at most a week.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=7 * 24 * 3600;

/// Most instructions that a template may take: a job's takes some hundred. Loops within
/// loops would not end before the night does.
const FUEL: u64 = 1_000_000;

/// Names that a template knows besides the variables in `with`.
pub(super) const CONTEXT: [&str; 6] = ["name", "suite", "board", "boards", "device_type", "world"];

/// All scenarios, and what is needed to render them.
#[derive(Debug)]
pub struct Matrix {
    /// Suites by name, with what each is about.
    pub suites: BTreeMap<String, String>,
    /// Scenarios, sorted by suite and name.
    pub scenarios: Vec<Scenario>,
    /// Templates of the families, by their path below `jobs/families`.
    pub(super) templates: Environment<'static>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FamilyFile {
    about: String,
    with: Mapping,
    dictionary: Mapping,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    about: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ScenarioFile {
    family: Option<String>,
    device_type: Option<String>,
    with: Mapping,
    dictionary: Mapping,
    tags: Vec<String>,
    skip: Option<SkipFile>,
    timeout: Option<u64>,
}

/// `skip: reason`, or `skip: {series: "<2026.07", reason: …}`.
#[derive(Debug)]
struct SkipFile(Skip);

impl<'de> Deserialize<'de> for SkipFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Of {
            series: Range,
            reason: String,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Skip;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reason, or `series` and `reason`")
            }

            fn visit_str<E: serde::de::Error>(self, reason: &str) -> std::result::Result<Skip, E> {
                Ok(Skip { series: None, reason: reason.to_owned() })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<Skip, A::Error> {
                let of = Of::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Skip { series: Some(of.series), reason: of.reason })
            }
        }
        let skip = deserializer.deserialize_any(Visitor)?;
        if skip.reason.trim().is_empty() {
            return Err(serde::de::Error::custom("skip: say why in a line"));
        }
        Ok(Self(skip))
    }
}

#[derive(Debug)]
struct Family {
    file: FamilyFile,
    /// Name of its template.
    template: String,
    /// Names that its templates look up.
    uses: BTreeSet<String>,
}

impl Matrix {
    /// Reads all of `jobs/` below `root`.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] with every problem found.
    pub fn load(root: &Path) -> Result<Self> {
        let (matrix, problems) = Self::load_with_problems(root);
        refuse(&problems)?;
        Ok(matrix)
    }

    /// Reads what can be read of `jobs/`, and says what could not.
    #[must_use]
    pub fn load_with_problems(root: &Path) -> (Self, Vec<Problem>) {
        let mut loader = Loader { root, problems: Vec::new() };
        let jobs = root.join("jobs");
        let mut templates = environment();
        let families = loader.families(&jobs.join(FAMILIES), &mut templates);
        let mut suites = BTreeMap::new();
        let mut scenarios = Vec::new();
        for folder in loader.folders(&jobs) {
            let suite = file_name(&folder);
            if suite == FAMILIES {
                continue;
            }
            if let Some(file) = loader.yaml::<SuiteFile>(&folder.join("suite.yaml")) {
                suites.insert(suite.clone(), file.about);
            }
            for folder in loader.folders(&folder) {
                scenarios.extend(loader.scenario(&suite, &folder, &families));
            }
        }
        loader.duplicates(&scenarios);
        let Loader { mut problems, .. } = loader;
        problems.sort();
        (Self { suites, scenarios, templates }, problems)
    }
}

/// Templates see the YAML as it will be: nothing escaped, nothing undefined.
fn environment() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::None);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_trim_blocks(true);
    templates.set_lstrip_blocks(true);
    templates.set_keep_trailing_newline(true);
    templates.set_fuel(Some(FUEL));
    // Errors name the variable and its place, in a release build too.
    templates.set_debug(true);
    templates.add_filter("yaml", yaml);
    templates
}

/// The filter `yaml`: a value as the lines of a block. Those after the first want
/// `indent` where the block stands deeper.
fn yaml(value: &minijinja::Value) -> std::result::Result<String, minijinja::Error> {
    serde_yaml::to_string(value)
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

struct Loader<'a> {
    root: &'a Path,
    problems: Vec<Problem>,
}

impl Loader<'_> {
    fn problem(&mut self, path: &Path, message: impl Into<String>) {
        self.problems.push(Problem::new(relative(self.root, path), message));
    }

    /// Entries of a folder, sorted; hidden ones left out.
    fn entries(&mut self, path: &Path) -> Vec<PathBuf> {
        let listed = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
        match listed {
            Ok(mut entries) => {
                entries.retain(|entry| !file_name(entry).starts_with('.'));
                entries.sort();
                entries
            }
            Err(error) => {
                self.problem(path, format!("could not list the folder: {error}"));
                Vec::new()
            }
        }
    }

    fn folders(&mut self, path: &Path) -> Vec<PathBuf> {
        self.entries(path).into_iter().filter(|entry| entry.is_dir()).collect()
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        match fs::read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Some(text),
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    self.problem(path, format!("is no UTF-8 at byte {at}"));
                    None
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.problem(path, "is missing");
                None
            }
            Err(error) => {
                self.problem(path, format!("could not be read: {error}"));
                None
            }
        }
    }

    fn yaml<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let text = self.text(path)?;
        self.parse(path, &text)
    }

    fn parse<T: DeserializeOwned>(&mut self, path: &Path, text: &str) -> Option<T> {
        match serde_yaml::from_str(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(Problem::yaml(relative(self.root, path), &error));
                None
            }
        }
    }

    fn families(
        &mut self,
        path: &Path,
        templates: &mut Environment<'static>,
    ) -> BTreeMap<String, Option<Family>> {
        if !path.is_dir() {
            return BTreeMap::new();
        }
        // All templates first: they may include each other.
        self.templates(path, path, templates);
        let looks_up = |name: &str| -> BTreeSet<String> {
            templates
                .get_template(name)
                .map(|template| template.undeclared_variables(false).into_iter().collect())
                .unwrap_or_default()
        };
        let all: Vec<String> = templates.templates().map(|(name, _)| name.to_owned()).collect();
        let mut families = BTreeMap::new();
        for folder in self.folders(path) {
            let name = file_name(&folder);
            let template = format!("{name}/job.yaml");
            if !all.contains(&template) && !folder.join("family.yaml").exists() {
                if folder.join("job.yaml").exists() {
                    // A template that does not parse; said already.
                    families.insert(name, None);
                }
                continue;
            }
            let file = self.yaml::<FamilyFile>(&folder.join("family.yaml"));
            if !folder.join("job.yaml").exists() {
                self.problem(&folder.join("job.yaml"), "is missing");
            }
            let family = file.filter(|_| all.contains(&template)).map(|file| {
                // What is shared may be included from anywhere.
                let shared = all.iter().filter(|other| !other.ends_with("/job.yaml"));
                let uses = shared.chain([&template]).flat_map(|name| looks_up(name)).collect();
                Family { file, template, uses }
            });
            if let Some(family) = &family {
                self.variables(&folder.join("family.yaml"), &family.file.with, &family.uses);
                if family.file.about.trim().is_empty() {
                    self.problem(&folder.join("family.yaml"), "about: say in a line what the family is");
                }
            }
            families.insert(name, family);
        }
        families
    }

    fn templates(&mut self, root: &Path, path: &Path, templates: &mut Environment<'static>) {
        for entry in self.entries(path) {
            if entry.is_dir() {
                self.templates(root, &entry, templates);
                continue;
            }
            let is_template = entry.extension().is_some_and(|ext| ext == "yaml" || ext == "jinja");
            if !is_template || file_name(&entry) == "family.yaml" {
                continue;
            }
            let Some(text) = self.text(&entry) else { continue };
            let name = relative(root, &entry).to_string_lossy().into_owned();
            if let Err(error) = templates.add_template_owned(name, text.clone()) {
                self.problems.push(super::render::template_problem(
                    &error,
                    &relative(self.root, &entry),
                    Some(&text),
                ));
            }
        }
    }

    /// Refuses variables that nothing looks up: they are mistyped or left over.
    fn variables(&mut self, path: &Path, with: &Mapping, uses: &BTreeSet<String>) {
        let text = fs::read_to_string(path).unwrap_or_default();
        for key in with.keys() {
            let Some(name) = key.as_str() else {
                self.problem(path, "with: names of variables are strings");
                continue;
            };
            let message = if CONTEXT.contains(&name) {
                format!("with: `{name}` is set by meta-lava and can't be given")
            } else if !uses.contains(name) {
                format!("with: the job's template looks up no `{name}`")
            } else {
                continue;
            };
            self.problems.push(Problem::at(relative(self.root, path), key_position(&text, name), message));
        }
    }

    fn scenario(
        &mut self,
        suite: &str,
        folder: &Path,
        families: &BTreeMap<String, Option<Family>>,
    ) -> Option<Scenario> {
        let name = file_name(folder);
        let path = folder.join("scenario.yaml");
        let text = self.text(&path)?;
        // An empty file is a scenario that says nothing.
        let file: ScenarioFile =
            if text.trim().is_empty() { ScenarioFile::default() } else { self.parse(&path, &text)? };
        if !is_name(&name) {
            self.problem(folder, "names of scenarios are made of letters, digits, `-`, `_` and `.`");
        }
        let at = |key: &str| key_position(&text, key);
        let shown = relative(self.root, &path);

        let whole = folder.join("job.yaml");
        let mut with = Mapping::new();
        let mut dictionary = Mapping::new();
        let mut device_type = file.device_type.clone();
        let job = match (&file.family, whole.exists()) {
            (Some(family), false) => match families.get(family) {
                Some(Some(found)) => {
                    with = found.file.with.clone();
                    dictionary = found.file.dictionary.clone();
                    self.variables(&path, &file.with, &found.uses);
                    Some(JobSource::Template(found.template.clone()))
                }
                Some(None) => None,
                None => {
                    let known: Vec<&str> = families.keys().map(String::as_str).collect();
                    let message = format!("no family is called `{family}`; there are {}", known.join(", "));
                    self.problems.push(Problem::at(shown, at("family"), message));
                    None
                }
            },
            (None, true) => {
                if !file.with.is_empty() {
                    let message = "with: has no use beside a job.yaml";
                    self.problems.push(Problem::at(shown, at("with"), message));
                }
                let job = self.text(&whole);
                if let Some(job) = &job
                    && device_type.is_none()
                {
                    device_type = self
                        .parse::<Mapping>(&whole, job)
                        .and_then(|job| job.get("device_type").and_then(Value::as_str).map(str::to_owned));
                }
                job.map(JobSource::Whole)
            }
            (Some(_), true) => {
                let message = "has a family and a job.yaml; it can have only one of them";
                self.problems.push(Problem::at(shown, at("family"), message));
                None
            }
            (None, false) => {
                self.problem(&path, "needs a `family`, or a job.yaml beside it");
                None
            }
        };
        if let Some(timeout) = file.timeout.filter(|timeout| !TIMEOUTS.contains(timeout)) {
            let message =
                format!("timeout: {timeout} s; a job may take {} to {} s", TIMEOUTS.start(), TIMEOUTS.end());
            self.problems.push(Problem::at(relative(self.root, &path), at("timeout"), message));
        }
        with.extend(file.with);
        dictionary.extend(file.dictionary);
        let board = self.board(&format!("{name}-01"), &folder.join("ghost.yaml"));
        Some(Scenario {
            suite: suite.to_owned(),
            family: file.family,
            device_type: device_type.unwrap_or_else(|| name.clone()),
            name,
            with,
            dictionary,
            tags: file.tags,
            skip: file.skip.map(|skip| skip.0),
            timeout: file.timeout.map_or(TIMEOUT, Duration::from_secs),
            boards: vec![board?],
            folder: relative(self.root, folder),
            job: job?,
        })
    }

    fn board(&mut self, name: &str, path: &Path) -> Option<BoardSource> {
        #[derive(Deserialize)]
        struct Probe {
            firmware: Kind,
        }
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        let text = self.text(path)?;
        let board = match meta_lava_ghost::firmware::load(name, &text) {
            Ok((board, _)) => board,
            Err(meta_lava_ghost::board::BoardError::Schema(error)) => {
                self.problems.push(Problem::yaml(relative(self.root, path), &error));
                return None;
            }
            Err(error) => {
                let at = key_position(&text, "kind").or_else(|| key_position(&text, "firmware"));
                self.problems.push(Problem::at(relative(self.root, path), at, error.to_string()));
                return None;
            }
        };
        let probe: Probe = self.parse(path, &text)?;
        Some(BoardSource { name: name.to_owned(), firmware: probe.firmware.kind, uarts: board.uarts, text })
    }

    fn duplicates(&mut self, scenarios: &[Scenario]) {
        let mut seen: BTreeMap<&str, &Scenario> = BTreeMap::new();
        for scenario in scenarios {
            if let Some(first) = seen.insert(&scenario.name, scenario) {
                self.problems.push(Problem::new(
                    &scenario.folder,
                    format!("names are unique over all suites, and this one is also {}", first.id()),
                ));
            }
        }
    }
}

/// Safe as a file name, as a LAVA hostname and as a device tag.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
