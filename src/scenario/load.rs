//! Reads `boards/` and `jobs/`.
//!
//! ```text
//! boards/<name>.yaml                   a board, its device-type and its dictionary
//! jobs/families/<family>/job.yaml      a LAVA job, as a minijinja template
//! jobs/families/<family>/family.yaml   about, with, fails: what its scenarios share
//! jobs/families/<other>/…              what the templates of families include or import
//! jobs/<suite>/suite.yaml              about: one line
//! jobs/<suite>/<name>/scenario.yaml    about, family, board (or roles), change, dictionary, with, tags, skip, unlogged, ends, says, requests,
//!                                      fails, defect, timeout; or variants of it, each a scenario with a name of its own
//! jobs/<suite>/<name>/job.yaml         a whole job, instead of a family
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meta_lava_ghost::peripheral::usb_path_of;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_yaml::Mapping;

use super::board::{Changed, LibraryBoard, check_dictionary, prefixed};
use super::defect::DefectsFile;
use super::problem::{Problem, key_position, path_position, refuse, relative};
use super::request::Request;
use super::{Ends, EndsOn, JobSource, Role, Says, Scenario, Why};
use crate::error::Result;
use crate::lava::series::Range;
use crate::text::nearest;

/// The folder of `jobs/` that is no suite.
const FAMILIES: &str = "families";

/// How long a job may take when its scenario does not say.
const TIMEOUT: Duration = Duration::from_secs(180);

/// What a scenario may say instead, in seconds: at most a week.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=7 * 24 * 3600;

/// How many boards may play a role.
const COUNTS: std::ops::RangeInclusive<usize> = 1..=99;

/// Most instructions that a template may take: a job's takes some hundred. Loops within
/// loops would not end before the night does.
const FUEL: u64 = 1_000_000;

/// Names that a template knows besides the variables in `with`.
pub(super) const CONTEXT: [&str; 7] = ["name", "suite", "board", "boards", "roles", "device_type", "world"];

/// All scenarios, and what is needed to render them.
#[derive(Debug)]
pub struct Matrix {
    /// Suites by name, with what each is about.
    pub suites: BTreeMap<String, String>,
    /// Scenarios, sorted by suite and name.
    pub scenarios: Vec<Scenario>,
    /// The library of boards, by name.
    pub boards: BTreeMap<String, Arc<LibraryBoard>>,
    /// `suite/name` of those that stand in `jobs/` and could not be read: what belongs to them is
    /// not nobody's.
    pub unread: BTreeSet<String>,
    /// Templates of the families, by their path below `jobs/families`.
    pub(super) templates: Environment<'static>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FamilyFile {
    about: String,
    with: Mapping,
    fails: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    about: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ScenarioFile {
    about: Option<String>,
    family: Option<String>,
    board: Option<String>,
    change: Mapping,
    dictionary: Mapping,
    roles: Option<Roles>,
    with: Mapping,
    tags: Vec<String>,
    skip: Option<WhyFile>,
    unlogged: Option<WhyFile>,
    ends: Option<EndsFile>,
    says: Option<Says>,
    again: Option<Ends>,
    requests: Vec<Request>,
    fails: Vec<String>,
    defect: DefectsFile,
    timeout: Option<u64>,
    variants: Option<Variants>,
}

/// Scenarios that a file has in one table, by name: each is what the file says, and over that what
/// is its own.
#[derive(Debug)]
struct Variants(Vec<(String, ScenarioFile)>);

impl<'de> Deserialize<'de> for Variants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let named = Named { expecting: "scenarios by name", one: "variant", read: PhantomData };
        deserializer.deserialize_map(named).map(Self)
    }
}

impl ScenarioFile {
    /// A variant of `self`: what `own` says, and else what `self` says. Of `with`, `change` and
    /// `dictionary` that holds for each key, and tags and failing cases are added.
    fn with_own(&self, own: Self) -> Self {
        let or = |own: Option<String>, base: &Option<String>| own.or_else(|| base.clone());
        let both = |base: &[String], own: Vec<String>| base.iter().cloned().chain(own).collect();
        Self {
            about: or(own.about, &self.about),
            family: or(own.family, &self.family),
            board: or(own.board, &self.board),
            change: laid_over(&self.change, own.change),
            dictionary: laid_over(&self.dictionary, own.dictionary),
            roles: own.roles,
            with: laid_over(&self.with, own.with),
            tags: both(&self.tags, own.tags),
            skip: own.skip.or_else(|| self.skip.clone()),
            unlogged: own.unlogged.or_else(|| self.unlogged.clone()),
            ends: own.ends.or_else(|| self.ends.clone()),
            says: own.says.or_else(|| self.says.clone()),
            again: own.again.or(self.again),
            requests: self.requests.iter().cloned().chain(own.requests).collect(),
            fails: both(&self.fails, own.fails),
            defect: if own.defect.0.is_empty() { self.defect.clone() } else { own.defect },
            timeout: own.timeout.or(self.timeout),
            variants: own.variants,
        }
    }
}

/// `base` with the values of `over`, mapping by mapping.
fn laid_over(base: &Mapping, over: Mapping) -> Mapping {
    let mut all = base.clone();
    for (key, value) in over {
        let value = match (all.get(&key), value) {
            (Some(serde_yaml::Value::Mapping(base)), serde_yaml::Value::Mapping(over)) => {
                serde_yaml::Value::Mapping(laid_over(base, over))
            }
            (_, value) => value,
        };
        all.insert(key, value);
    }
    all
}

/// Names of the variants in a text that is no scenario, by its looks.
fn variants_by_looks(text: &str) -> Vec<String> {
    let inside = text.lines().skip_while(|line| !line.starts_with("variants:")).skip(1);
    let name = |line: &str| {
        let name = line.strip_prefix("  ")?.strip_suffix(':')?;
        is_name(name).then(|| name.to_owned())
    };
    inside.take_while(|line| line.starts_with([' ', '#']) || line.is_empty()).filter_map(name).collect()
}

/// `ends: incomplete`, or `ends: {incomplete: "<2026.07"}`.
#[derive(Debug, Clone)]
struct EndsFile(EndsOn);

impl<'de> Deserialize<'de> for EndsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = EndsOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`complete`, `incomplete` or `refused`, or one of them with its series, such as \
                     `incomplete: \">=2026.07\"`",
                )
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> std::result::Result<EndsOn, E> {
                let ends = Ends::deserialize(serde::de::value::StrDeserializer::new(word))?;
                Ok(EndsOn { ends, series: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<EndsOn, A::Error> {
                let one = || serde::de::Error::custom("ends: one way to end, with its series");
                let (ends, series) = map.next_entry::<Ends, Range>()?.ok_or_else(one)?;
                match map.next_key::<serde::de::IgnoredAny>()? {
                    None => Ok(EndsOn { ends, series: Some(series) }),
                    Some(_) => Err(one()),
                }
            }
        }
        deserializer.deserialize_any(Either).map(Self)
    }
}

/// A reason, or `{series: "<2026.07", reason: …}`: of `skip` and `unlogged`.
#[derive(Debug, Clone)]
struct WhyFile(Why);

impl<'de> Deserialize<'de> for WhyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Of {
            series: Range,
            reason: String,
        }
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Why;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reason, or `series` and `reason`")
            }

            fn visit_str<E: serde::de::Error>(self, reason: &str) -> std::result::Result<Why, E> {
                Ok(Why { series: None, reason: reason.to_owned() })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<Why, A::Error> {
                let of = Of::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Why { series: Some(of.series), reason: of.reason })
            }
        }
        let why = deserializer.deserialize_any(Visitor)?;
        if why.reason.trim().is_empty() {
            return Err(serde::de::Error::custom("say why in a line"));
        }
        Ok(Self(why))
    }
}

/// Roles by name, in the file's order.
#[derive(Debug)]
struct Roles(Vec<(String, RoleFile)>);

/// A role: what its boards are, and how many.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    board: Option<String>,
    /// The role on whose device it is, of a guest.
    on: Option<String>,
    #[serde(default = "one")]
    count: usize,
    #[serde(default)]
    change: Mapping,
    #[serde(default)]
    dictionary: Mapping,
}

const fn one() -> usize {
    1
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "roles by name, such as `client: {board: juno, count: 2}`";
        let named = Named::<NameOrRole> { expecting, one: "role", read: PhantomData };
        let roles = deserializer.deserialize_map(named)?;
        Ok(Self(roles.into_iter().map(|(name, role)| (name, role.0)).collect()))
    }
}

/// Reads things by name, in the file's order.
struct Named<T> {
    expecting: &'static str,
    /// What one of them is.
    one: &'static str,
    read: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut all: Self::Value = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if all.iter().any(|(other, _)| *other == name) {
                return Err(serde::de::Error::custom(format!("two {}s are called `{name}`", self.one)));
            }
            all.push((name, map.next_value()?));
        }
        Ok(all)
    }
}

/// A role in full, or the name of its one board.
struct NameOrRole(RoleFile);

impl<'de> Deserialize<'de> for NameOrRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RoleFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a board's name, or `board`, `count`, `change` and `dictionary`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<RoleFile, E> {
                Ok(RoleFile { board: Some(name.to_owned()), count: 1, ..RoleFile::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RoleFile, A::Error> {
                RoleFile::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either).map(NameOrRole)
    }
}

/// Where a scenario is written.
#[derive(Debug, Clone, Copy)]
struct Place<'f> {
    suite: &'f str,
    folder: &'f Path,
    path: &'f Path,
    text: &'f str,
    /// Its name, where it is one of the file's variants.
    variant: Option<&'f str>,
}

impl Place<'_> {
    /// Where `key` stands: in the variant, or else in what all of them have.
    fn at(&self, key: &str) -> Option<(usize, usize)> {
        let of_variant = |name| {
            let own = path_position(self.text, &["variants", name, key])?;
            // That of the name, where it has no such key.
            (Some(own) != path_position(self.text, &["variants", name])).then_some(own)
        };
        self.variant.and_then(of_variant).or_else(|| key_position(self.text, key))
    }
}

/// Boards by name; `None` where the file is wrong.
type Library = BTreeMap<String, Option<Arc<LibraryBoard>>>;

#[derive(Debug)]
struct Family {
    file: FamilyFile,
    /// Name of its template.
    template: String,
    /// Names that its templates look up.
    uses: BTreeSet<String>,
}

impl Matrix {
    /// Reads all of `boards/` and `jobs/` below `root`.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] with every problem found.
    pub fn load(root: &Path) -> Result<Self> {
        let (matrix, problems) = Self::load_with_problems(root);
        refuse(&problems)?;
        Ok(matrix)
    }

    /// Reads what can be read of `boards/` and `jobs/`, and says what could not.
    #[must_use]
    pub fn load_with_problems(root: &Path) -> (Self, Vec<Problem>) {
        let mut loader = Loader { root, problems: Vec::new() };
        let boards = loader.boards(&root.join("boards"));
        let jobs = root.join("jobs");
        let mut templates = environment();
        let families = loader.families(&jobs.join(FAMILIES), &mut templates);
        let mut suites = BTreeMap::new();
        let (mut scenarios, mut unread) = (Vec::new(), BTreeSet::new());
        for folder in loader.folders(&jobs) {
            let suite = file_name(&folder);
            if suite == FAMILIES {
                continue;
            }
            if let Some(file) = loader.yaml::<SuiteFile>(&folder.join("suite.yaml")) {
                suites.insert(suite.clone(), file.about);
            }
            for folder in loader.folders(&folder) {
                for found in loader.scenarios(&suite, &folder, &families, &boards) {
                    match found {
                        Ok(scenario) => scenarios.push(scenario),
                        Err(name) => _ = unread.insert(format!("{suite}/{name}")),
                    }
                }
            }
        }
        scenarios.sort_by(|a: &Scenario, b| (&a.suite, &a.name).cmp(&(&b.suite, &b.name)));
        loader.duplicates(&scenarios);
        let Loader { mut problems, .. } = loader;
        problems.sort();
        // What a table says wrong for all of its scenarios is told once.
        problems.dedup();
        let boards = boards.into_iter().filter_map(|(name, board)| Some((name, board?))).collect();
        (Self { suites, scenarios, boards, unread, templates }, problems)
    }

    /// Boards that no scenario refers to.
    #[must_use]
    pub fn unused_boards(&self) -> Vec<Problem> {
        let used: BTreeSet<&str> = self
            .scenarios
            .iter()
            .flat_map(|scenario| &scenario.roles)
            .map(|role| role.board.name.as_str())
            .collect();
        let unused = self.boards.values().filter(|board| !used.contains(board.name.as_str()));
        unused.map(|board| Problem::new(&board.path, "no scenario refers to this board")).collect()
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
    templates.add_filter("usb_path_of", |board: &str, cable: &str| usb_path_of(board, cable));
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
                self.problems.push(Problem::yaml(relative(self.root, path), text, &error));
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

    /// The scenarios of a folder; of one that can't be read only the name.
    fn scenarios(
        &mut self,
        suite: &str,
        folder: &Path,
        families: &BTreeMap<String, Option<Family>>,
        boards: &Library,
    ) -> Vec<Result<Scenario, String>> {
        let name = file_name(folder);
        let path = folder.join("scenario.yaml");
        let Some(text) = self.text(&path) else { return vec![Err(name)] };
        // An empty file is a scenario that says nothing.
        let parsed =
            if text.trim().is_empty() { Some(ScenarioFile::default()) } else { self.parse(&path, &text) };
        let Some(mut file): Option<ScenarioFile> = parsed else {
            return std::iter::once(name).chain(variants_by_looks(&text)).map(Err).collect();
        };
        let place = Place { suite, folder, path: &path, text: &text, variant: None };
        let Some(Variants(variants)) = file.variants.take() else {
            return vec![self.scenario(&name, file, place, families, boards).ok_or(name)];
        };
        let shown = relative(self.root, &path);
        let mut wrong = |key: &str, message: &str| {
            self.problems.push(Problem::at(&shown, key_position(&text, key), message.to_owned()));
        };
        if variants.is_empty() {
            wrong("variants", "variants: there is none");
        }
        if file.roles.is_some() {
            wrong("roles", "roles: a file with `variants` has scenarios of one board");
        }
        let mut found = Vec::new();
        for (name, own) in variants {
            let place = Place { variant: Some(&name), ..place };
            if own.variants.is_some() {
                let at = place.at("variants");
                self.problems.push(Problem::at(&shown, at, "variants: a variant has none of its own"));
            }
            let whole = file.with_own(own);
            found.push(self.scenario(&name, whole, place, families, boards).ok_or_else(|| name.clone()));
        }
        found
    }

    fn scenario(
        &mut self,
        name: &str,
        mut file: ScenarioFile,
        place: Place<'_>,
        families: &BTreeMap<String, Option<Family>>,
        boards: &Library,
    ) -> Option<Scenario> {
        let Place { suite, folder, path, text, .. } = place;
        let at = |key: &str| place.at(key);
        let shown = relative(self.root, path);
        if !is_name(name) {
            let message = "names of scenarios are made of letters, digits, `-`, `_` and `.`";
            match place.variant {
                Some(name) => {
                    let at = path_position(text, &["variants", name]);
                    self.problems.push(Problem::at(&shown, at, format!("`{name}`: {message}")));
                }
                None => self.problem(folder, message),
            }
        }
        let unsaid = file.about.as_ref().is_some_and(|about| about.trim().is_empty() || about.contains('\n'));
        if unsaid || (place.variant.is_some() && file.about.is_none()) {
            let message = "about: say in one line what the scenario is about";
            self.problems.push(Problem::at(&shown, at("about"), message));
        }

        let whole = folder.join("job.yaml");
        let mut with = Mapping::new();
        let mut fails = Vec::new();
        let job = match (&file.family, whole.exists()) {
            (Some(family), false) => match families.get(family) {
                Some(Some(found)) => {
                    with = found.file.with.clone();
                    fails.clone_from(&found.file.fails);
                    self.variables(path, &file.with, &found.uses);
                    Some(JobSource::Template(found.template.clone()))
                }
                Some(None) => None,
                None => {
                    let known: Vec<&str> = families.keys().map(String::as_str).collect();
                    let message = format!("no family is called `{family}`; there are {}", known.join(", "));
                    self.problems.push(Problem::at(&shown, at("family"), message));
                    None
                }
            },
            (None, true) => {
                if !file.with.is_empty() {
                    let message = "with: has no use beside a job.yaml";
                    self.problems.push(Problem::at(&shown, at("with"), message));
                }
                // Told now, and not when it is rendered: a run has begun by then.
                let job = self.text(&whole);
                job.filter(|job| self.parse::<Mapping>(&whole, job).is_some()).map(JobSource::Whole)
            }
            (Some(_), true) => {
                let message = "has a family and a job.yaml; it can have only one of them";
                self.problems.push(Problem::at(&shown, at("family"), message));
                None
            }
            (None, false) => {
                self.problem(path, "needs a `family`, or a job.yaml beside it");
                None
            }
        };
        if let Some(timeout) = file.timeout.filter(|timeout| !TIMEOUTS.contains(timeout)) {
            let message =
                format!("timeout: {timeout} s; a job may take {} to {} s", TIMEOUTS.start(), TIMEOUTS.end());
            self.problems.push(Problem::at(&shown, at("timeout"), message));
        }
        if let Some(why) = file.again.and_then(|again| match again {
            _ if file.roles.is_some() => Some("a job for several boards is submitted once"),
            Ends::Refused => Some("the second job is the first one over again: complete or incomplete"),
            _ => None,
        }) {
            self.problems.push(Problem::at(&shown, at("again"), format!("again: {why}")));
        }
        let roles = self.roles(name, &shown, place, &mut file, boards);
        with.extend(file.with);
        fails.extend(file.fails);
        Some(Scenario {
            suite: suite.to_owned(),
            family: file.family,
            name: name.to_owned(),
            about: file.about,
            says: file.says,
            again: file.again,
            requests: file.requests,
            with,
            tags: file.tags,
            skip: file.skip.map(|why| why.0),
            unlogged: file.unlogged.map(|why| why.0),
            ends: file.ends.map(|ends| ends.0),
            fails,
            defects: file.defect.0,
            timeout: file.timeout.map_or(TIMEOUT, Duration::from_secs),
            roles: roles?,
            folder: relative(self.root, folder),
            job: job?,
        })
    }

    /// Who takes part in a scenario.
    fn roles(
        &mut self,
        scenario: &str,
        shown: &Path,
        place: Place<'_>,
        file: &mut ScenarioFile,
        boards: &Library,
    ) -> Option<Vec<Role>> {
        let Some(Roles(roles)) = file.roles.take() else {
            let one = RoleFile {
                board: Some(file.board.clone().unwrap_or_else(|| scenario.to_owned())),
                on: None,
                count: 1,
                change: std::mem::take(&mut file.change),
                dictionary: std::mem::take(&mut file.dictionary),
            };
            return self.role(scenario, None, one, shown, place, boards).map(|role| vec![role]);
        };
        let of_one = [
            ("board", file.board.is_some()),
            ("change", !file.change.is_empty()),
            ("dictionary", !file.dictionary.is_empty()),
        ];
        for (key, _) in of_one.into_iter().filter(|(_, said)| *said) {
            let message = format!("{key}: say it of one of the roles, since there are `roles`");
            self.problems.push(Problem::at(shown, place.at(key), message));
        }
        if roles.is_empty() {
            self.problems.push(Problem::at(shown, place.at("roles"), "roles: there is none"));
        }
        let mut found = Vec::new();
        for (name, role) in roles {
            let role = match role.on.clone() {
                Some(on) => self.guest(scenario, name, &on, &role, &found, (shown, place)),
                None => self.role(scenario, Some(name), role, shown, place, boards),
            };
            found.push(role);
        }
        found.into_iter().collect::<Option<Vec<_>>>().filter(|roles| !roles.is_empty())
    }

    /// A role whose job is on the device of another one, which is among those `before`.
    fn guest(
        &mut self,
        scenario: &str,
        name: String,
        on: &str,
        file: &RoleFile,
        before: &[Option<Role>],
        (shown, place): (&Path, Place<'_>),
    ) -> Option<Role> {
        let own = file.board.is_some() || !file.change.is_empty() || !file.dictionary.is_empty();
        let host = before.iter().flatten().find(|role| role.name.as_deref() == Some(on));
        let why = match host {
            _ if own || file.count != 1 => "has one job, and nothing of its own but `on`".to_owned(),
            None => format!("is on the device of a role before it, and there `{on}` is none"),
            // LAVA refuses a host of several boards (`split_multinode_yaml` in `lava_scheduler_app/utils.py`).
            Some(host) if host.boards.len() != 1 => {
                format!("can be on one board only, and `{on}` has several")
            }
            Some(host) if host.ghost.firmware != "ssh" => {
                format!("can be on a board only that is reached by SSH, and `{on}` is none")
            }
            Some(host) => {
                return Some(Role {
                    boards: vec![format!("{scenario}-{name}-01")],
                    on: Some((on.to_owned(), host.boards[0].clone())),
                    name: Some(name),
                    board: Arc::clone(&host.board),
                    change: host.change.clone(),
                    dictionary: Mapping::new(),
                    ghost: host.ghost.clone(),
                });
            }
        };
        let at = path_position(place.text, &["roles", &name, "on"]);
        self.problems.push(Problem::at(shown, at, format!("roles.{name}: a guest {why}")));
        None
    }

    fn role(
        &mut self,
        scenario: &str,
        name: Option<String>,
        file: RoleFile,
        shown: &Path,
        file_place: Place<'_>,
        boards: &Library,
    ) -> Option<Role> {
        let text = file_place.text;
        let within = file_place.variant.into_iter().flat_map(|name| ["variants", name]);
        let place: Vec<&str> = within.chain(name.iter().flat_map(|name| ["roles", name.as_str()])).collect();
        let at = |key: &[String]| path_position(text, &prefixed(&place, key));
        let key = |key: &str| at(&[key.to_owned()]);
        let mut problem = |at, message: String| self.problems.push(Problem::at(shown, at, message));
        let Some(called) = file.board else {
            problem(at(&[]), "a role has a `board`, or is `on` another one's device".to_owned());
            return None;
        };
        let board = match boards.get(&called) {
            Some(Some(board)) => Arc::clone(board),
            // Said already, of the board's own file.
            Some(None) => return None,
            None => {
                let near = nearest(&called, boards.keys().map(String::as_str));
                let hint = if near.is_empty() {
                    format!("boards/{called}.yaml would be its file")
                } else {
                    format!("did you mean {}?", near.join(", "))
                };
                problem(key("board"), format!("no board is called `{called}`; {hint}"));
                return None;
            }
        };
        if let Some(name) = name.as_deref().filter(|name| !is_name(name)) {
            problem(at(&[]), format!("`{name}`: names of roles are made as those of scenarios"));
        }
        if !COUNTS.contains(&file.count) {
            let message =
                format!("count: {}; a role has {} to {} boards", file.count, COUNTS.start(), COUNTS.end());
            problem(key("count"), message);
            return None;
        }
        let dictionary: Vec<&str> = place.iter().copied().chain(["dictionary"]).collect();
        let unwritable = check_dictionary(&file.dictionary, shown, text, &dictionary);
        let is_written = unwritable.is_empty();
        self.problems.extend(unwritable);
        // With every LAVA it must be a board; the plain one is what is said first.
        let with_every_lava = board.changed(&[&file.change]).and_then(|ghost| {
            board
                .of_series
                .iter()
                .try_fold(ghost, |ghost, of| board.changed(&[&of.change, &file.change]).map(|_| ghost))
        });
        let ghost = with_every_lava.map_err(|Changed { key, message }| {
            let key: Vec<String> = std::iter::once("change".to_owned()).chain(key).collect();
            self.problems.push(Problem::at(shown, at(&key), format!("change: {message}")));
        });
        let ghost = ghost.ok().filter(|_| is_written)?;
        let instance = |number: usize| match &name {
            None => format!("{scenario}-{number:02}"),
            Some(role) => format!("{scenario}-{role}-{number:02}"),
        };
        Some(Role {
            boards: (1..=file.count).map(instance).collect(),
            on: None,
            name,
            board,
            change: file.change,
            dictionary: file.dictionary,
            ghost,
        })
    }

    /// The library of boards. One whose file is wrong is known by name, and said to be wrong once.
    fn boards(&mut self, path: &Path) -> Library {
        let mut library = Library::new();
        if !path.is_dir() {
            return library;
        }
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for entry in self.entries(path) {
            let name = entry.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // Some file systems know one of them only.
            if let Some(other) = files.insert(name.to_lowercase(), entry.clone()) {
                let other = relative(self.root, &other);
                self.problem(&entry, format!("is a second file of the name of {}", other.display()));
                continue;
            }
            if entry.extension().is_none_or(|extension| extension != "yaml") || entry.is_dir() {
                self.problem(&entry, "a board is a file called <name>.yaml");
                continue;
            }
            if !is_name(&name) {
                self.problem(&entry, "names of boards are made of letters, digits, `-`, `_` and `.`");
            }
            let board = self.text(&entry).and_then(|text| {
                let shown = relative(self.root, &entry);
                LibraryBoard::parse(&name, shown, &text).map_err(|found| self.problems.extend(found)).ok()
            });
            library.insert(name, board.map(Arc::new));
        }
        library
    }

    fn duplicates(&mut self, scenarios: &[Scenario]) {
        let mut seen: BTreeMap<&str, &Scenario> = BTreeMap::new();
        let mut boards: BTreeMap<&str, &Scenario> = BTreeMap::new();
        for scenario in scenarios {
            if let Some(first) = seen.insert(&scenario.name, scenario) {
                self.problems.push(Problem::new(
                    &scenario.folder,
                    format!("names are unique over all suites, and this one is also {}", first.id()),
                ));
                continue;
            }
            for board in scenario.boards() {
                if let Some(first) = boards.insert(board, scenario) {
                    let message = format!("its board {board} has the name of one of {}'s", first.id());
                    self.problems.push(Problem::new(&scenario.folder, message));
                }
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
