//! The library of boards: `boards/<name>.yaml`, each a board, the device-type that it is,
//! and what a lab would write into its device dictionary.
//!
//! ```text
//! device_type: juno            # the file's name, unless it says otherwise
//! dictionary: {…}              # variables of the device dictionary
//! of_series: […]               # what is different with some series of LAVA, and why
//! model: …                     # all else is the board itself, as its ghost reads it
//! ```
//!
//! A board is frozen data. Scenarios refer to it, and may change a value for themselves.

use std::path::PathBuf;

use meta_lava_ghost::board::BoardError;
use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use super::problem::{Problem, path_position};
use crate::lava::series::{Range, Series};

/// A board of the library.
#[derive(Debug, Clone)]
pub struct LibraryBoard {
    /// Its file's name, which scenarios refer to.
    pub name: String,
    /// LAVA's device-type.
    pub device_type: String,
    /// Variables of its device dictionary, as a lab sets them; null leaves one to the template.
    pub dictionary: Mapping,
    /// What is different with some series of LAVA.
    pub of_series: Vec<OfSeries>,
    /// Its file, relative to the root.
    pub path: PathBuf,
    /// The board itself as it is written, for its ghost.
    text: String,
    /// The same as values.
    settings: Mapping,
}

/// What of a board is different with some series of LAVA.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfSeries {
    /// With which.
    pub series: Range,
    /// Why.
    pub reason: String,
    /// Variables of the device dictionary, over those that it has anyway.
    #[serde(default)]
    pub dictionary: Mapping,
    /// Values of the board.
    #[serde(default)]
    pub change: Mapping,
}

/// A board as its ghost gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ghost {
    /// Text that the ghost's daemon reads.
    pub text: String,
    /// What people call it.
    pub model: String,
    /// Kind of its firmware.
    pub firmware: String,
    /// Number of its serial ports.
    pub uarts: usize,
    /// What is wrong with it on purpose, a line each.
    pub faults: Vec<String>,
}

/// The keys of a board's file that are LAVA's, and nothing that the ghost knows of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lab {
    device_type: Option<String>,
    dictionary: Mapping,
    of_series: Vec<OfSeries>,
}

const NO_UARTS: &str = "change: uarts: a board has as many serial ports with every LAVA";

const LAB: [&str; 3] = ["device_type", "dictionary", "of_series"];

impl LibraryBoard {
    /// Reads the `text` of the file `path` of the board `name`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(name: &str, path: PathBuf, text: &str) -> Result<Self, Vec<Problem>> {
        let whole: Mapping =
            serde_yaml::from_str(text).map_err(|error| vec![Problem::yaml(&path, text, &error)])?;
        let (lab, settings): (Mapping, Mapping) =
            whole.into_iter().partition(|(key, _)| key.as_str().is_some_and(|key| LAB.contains(&key)));
        let mut parts = split(text);
        // The cut is by looks; what counts is that both parts say what the file says.
        let says = |text: &str, wanted: &Mapping| {
            serde_yaml::from_str::<Option<Mapping>>(text)
                .is_ok_and(|found| found.unwrap_or_default() == *wanted)
        };
        if !says(&parts.lab, &lab) || !says(&parts.ghost, &settings) {
            let written = |mapping: &Mapping| serde_yaml::to_string(mapping).unwrap_or_default();
            parts = Parts { lab: written(&lab), ghost: written(&settings), board: written(&settings) };
        }
        let mut problems = Vec::new();
        let lab = match serde_yaml::from_str::<Option<Lab>>(&parts.lab) {
            Ok(lab) => lab.unwrap_or_default(),
            Err(error) => {
                problems.push(Problem::yaml(&path, &parts.lab, &error));
                Lab::default()
            }
        };
        if let Err(error) = load(name, &parts.ghost) {
            problems.push(error.at(&path, &parts.ghost));
        }
        problems.extend(check_dictionary(&lab.dictionary, &path, text, &["dictionary"]));
        let board = Self {
            name: name.to_owned(),
            device_type: lab.device_type.unwrap_or_else(|| name.to_owned()),
            dictionary: lab.dictionary,
            of_series: lab.of_series,
            text: parts.board,
            settings,
            path,
        };
        if problems.is_empty() {
            let mut reasons = Vec::new();
            for of in &board.of_series {
                problems.extend(check_dictionary(
                    &of.dictionary,
                    &board.path,
                    text,
                    &["of_series", "dictionary"],
                ));
                if of.reason.trim().is_empty() {
                    reasons.push((vec!["reason".to_owned()], "say why".to_owned()));
                }
                match board.changed(&[&of.change]) {
                    // Ports do not move, whatever else does.
                    Ok(ghost) if ghost.uarts != board.uarts() => {
                        reasons.push((vec!["change".to_owned(), "uarts".to_owned()], NO_UARTS.to_owned()));
                    }
                    Ok(_) => {}
                    Err(Changed { key, message }) => {
                        let key = std::iter::once("change".to_owned()).chain(key).collect();
                        reasons.push((key, format!("change: {message}")));
                    }
                }
            }
            problems.extend(reasons.into_iter().map(|(key, message)| {
                let at = path_position(text, &prefixed(&["of_series"], &key));
                Problem::at(&board.path, at, format!("of_series: {message}"))
            }));
        }
        if problems.is_empty() { Ok(board) } else { Err(problems) }
    }

    /// What is different with LAVA's `series`, in the file's order.
    pub fn on(&self, series: Series) -> impl Iterator<Item = &OfSeries> {
        self.of_series.iter().filter(move |of| of.series.contains(series))
    }

    fn uarts(&self) -> usize {
        load(&self.name, &self.text).map_or(1, |ghost| ghost.uarts)
    }

    /// The board with `changes` laid over it, one after the other.
    ///
    /// # Errors
    /// Which value is not one that the board can have.
    pub fn changed(&self, changes: &[&Mapping]) -> Result<Ghost, Changed> {
        if changes.iter().all(|change| change.is_empty()) {
            return load(&self.name, &self.text)
                .map_err(|error| Changed { key: Vec::new(), message: error.message });
        }
        let mut settings = self.settings.clone();
        let (mut ghost, mut at_fault) = (None, None);
        for leaf in changes.iter().flat_map(|change| leaves(change)) {
            lay(&mut settings, &leaf.path, leaf.value)
                .map_err(|message| Changed { key: leaf.path.clone(), message })?;
            let text = serde_yaml::to_string(&settings).unwrap_or_default();
            match load(&self.name, &text) {
                Ok(found) => {
                    ghost = Some(found);
                    at_fault = None;
                }
                // From this one on; the next ones may make it good.
                Err(error) => {
                    let (key, _) = at_fault.unwrap_or((leaf.path, String::new()));
                    at_fault = Some((key, error.message));
                }
            }
        }
        match (at_fault, ghost) {
            (None, Some(ghost)) => Ok(ghost),
            (Some((key, message)), _) => Err(Changed { key, message }),
            (None, None) => Err(Changed { key: Vec::new(), message: "nothing is changed".into() }),
        }
    }
}

/// A change that makes no board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The keys that lead to the value.
    pub key: Vec<String>,
    /// What is wrong with it.
    pub message: String,
}

/// What is wrong with the text of a board.
struct Unloaded {
    at: Option<(usize, usize)>,
    message: String,
}

impl Unloaded {
    fn at(self, path: &std::path::Path, text: &str) -> Problem {
        let at = self.at.or_else(|| {
            path_position(text, &["firmware", "kind"]).or_else(|| path_position(text, &["firmware"]))
        });
        Problem::at(path, at, self.message)
    }
}

fn load(name: &str, text: &str) -> Result<Ghost, Unloaded> {
    #[derive(Deserialize)]
    struct Probe {
        firmware: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let board = match meta_lava_ghost::firmware::load(name, text) {
        Ok((board, _)) => board,
        Err(BoardError::Schema(error)) => {
            let problem = Problem::yaml("", text, &error);
            return Err(Unloaded { at: problem.at, message: problem.message });
        }
        Err(error) => return Err(Unloaded { at: None, message: error.to_string() }),
    };
    let probe: Probe = serde_yaml::from_str(text)
        .map_err(|error| Unloaded { at: None, message: Problem::yaml("", text, &error).message })?;
    Ok(Ghost {
        text: text.to_owned(),
        model: board.model,
        firmware: probe.firmware.kind,
        uarts: board.uarts,
        faults: board.faults.iter().map(ToString::to_string).collect(),
    })
}

/// Variables that no dictionary can have.
pub(super) fn check_dictionary(
    dictionary: &Mapping,
    path: &std::path::Path,
    text: &str,
    place: &[&str],
) -> Vec<Problem> {
    let check = |(name, value): (&Value, &Value)| {
        let message = super::dictionary::check(name, value).err()?;
        let key = [name.as_str().unwrap_or_default().to_owned()];
        Some(Problem::at(path, path_position(text, &prefixed(place, &key)), format!("dictionary: {message}")))
    };
    dictionary.iter().filter_map(check).collect()
}

/// `place`, and `key` in it.
pub(super) fn prefixed<'k>(place: &[&'k str], key: &'k [String]) -> Vec<&'k str> {
    place.iter().copied().chain(key.iter().map(String::as_str)).collect()
}

/// A value of a change, and the keys that lead to it.
struct Leaf<'v> {
    path: Vec<String>,
    value: &'v Value,
}

/// All values of a change, in order. What is no mapping is a value, and so is an empty one.
fn leaves(change: &Mapping) -> Vec<Leaf<'_>> {
    fn collect<'v>(mapping: &'v Mapping, path: &[String], leaves: &mut Vec<Leaf<'v>>) {
        for (key, value) in mapping {
            let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
            let path: Vec<String> = path.iter().cloned().chain([key]).collect();
            match value {
                Value::Mapping(inner) if !inner.is_empty() => collect(inner, &path, leaves),
                value => leaves.push(Leaf { path, value }),
            }
        }
    }
    let mut found = Vec::new();
    collect(change, &[], &mut found);
    found
}

/// Lays one value over `settings`; null takes the one that is there away.
fn lay(settings: &mut Mapping, path: &[String], value: &Value) -> Result<(), String> {
    let Some((last, folders)) = path.split_last() else { return Ok(()) };
    let mut at = settings;
    for key in folders {
        let entry = at.entry(key.as_str().into()).or_insert_with(|| Value::Mapping(Mapping::new()));
        at = match entry {
            Value::Mapping(inner) => inner,
            other => {
                // A value becomes a mapping: `lines: […]` can't, and the board's schema says so.
                *other = Value::Mapping(Mapping::new());
                let Value::Mapping(inner) = other else { return Ok(()) };
                inner
            }
        };
    }
    if value.is_null() {
        return match at.shift_remove(last.as_str()) {
            Some(_) => Ok(()),
            None => Err(format!("{}: the board has none that could be left out", path.join("."))),
        };
    }
    at.insert(last.as_str().into(), value.clone());
    Ok(())
}

/// A board's file, cut in two. Lines keep their numbers in `lab` and `ghost`.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// What LAVA's side is told, all else blank.
    lab: String,
    /// The board, all else blank.
    ghost: String,
    /// The board without the blank lines that the cut leaves.
    board: String,
}

/// Cuts by looks: keys at the left margin, each with the comments right above it.
fn split(text: &str) -> Parts {
    let is_lab = |line: &str| {
        let key = line.split(':').next().unwrap_or_default().trim_end();
        line.contains(':') && LAB.contains(&key)
    };
    let begins_a_key =
        |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic() || "\"'_?".contains(c));
    let mut parts = Parts { lab: String::new(), ghost: String::new(), board: String::new() };
    let (mut in_lab, mut pending) = (false, Vec::new());
    let mut add = |in_lab: bool, line: &str| {
        let (mine, other) =
            if in_lab { (&mut parts.lab, &mut parts.ghost) } else { (&mut parts.ghost, &mut parts.lab) };
        mine.push_str(line);
        other.push('\n');
        if !in_lab {
            parts.board.push_str(line);
        }
    };
    for line in text.split_inclusive('\n') {
        if line.starts_with('#') || line.trim().is_empty() {
            pending.push(line);
            continue;
        }
        if begins_a_key(line) {
            in_lab = is_lab(line);
        }
        for line in pending.drain(..).chain([line]) {
            add(in_lab, line);
        }
    }
    for line in pending {
        add(in_lab, line);
    }
    parts
}
