//! What the world has for LAVA to download, `world/artifacts.yaml`: a job that names another file
//! can only fail.

use std::fs;
use std::path::Path;

use meta_lava_world::artifacts::List;
use serde_yaml::Value;

use super::problem::{Problem, key_position};
use super::render::WORLD;
use super::{Ends, JobSource, Matrix, Scenario};
use crate::error::Result;
use crate::lava::series::Series;
use crate::text::nearest;

/// The list, relative to the root.
const LIST: &str = "world/artifacts.yaml";

/// The files of the world, by their path below its address.
#[derive(Debug)]
pub struct World {
    files: Vec<String>,
}

impl World {
    /// Reads the list of `root`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn load(root: &Path) -> Result<Self, Vec<Problem>> {
        let text = fs::read_to_string(root.join(LIST))
            .map_err(|error| vec![Problem::new(LIST, format!("could not be read: {error}"))])?;
        let list: List =
            serde_yaml::from_str(&text).map_err(|error| vec![Problem::yaml(LIST, &text, &error)])?;
        let problems: Vec<Problem> = list
            .problems()
            .into_iter()
            .map(|(path, why)| Problem::at(LIST, key_position(&text, path), format!("{path}: {why}")))
            .collect();
        match problems.is_empty() {
            true => Ok(Self { files: list.artifacts.into_keys().collect() }),
            false => Err(problems),
        }
    }

    /// Refuses scenarios whose jobs name files that there are not.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] with all of them, or with what is wrong with the list.
    pub fn refuse(root: &Path, matrix: &Matrix, scenarios: &[&Scenario]) -> Result<()> {
        let world = match Self::load(root) {
            Ok(world) => world,
            Err(problems) => return super::refuse(&problems),
        };
        let mut problems: Vec<Problem> = scenarios
            .iter()
            // What can't be rendered is told where it is.
            .filter_map(|scenario| Some((scenario, matrix.render(scenario, Series::OLDEST).ok()?)))
            .flat_map(|(scenario, rendered)| world.missing(root, scenario, &rendered.job))
            .collect();
        problems.sort();
        problems.dedup();
        super::refuse(&problems)
    }

    /// The files that the `job` of a scenario has LAVA download and that there are not; each where
    /// it is said, as far as that can be told by its looks.
    #[must_use]
    pub fn missing(&self, root: &Path, scenario: &Scenario, job: &str) -> Vec<Problem> {
        // It may be what such a job is about.
        if scenario.ends.is_some_and(|said| said.ends != Ends::Complete) {
            return Vec::new();
        }
        let mut named = Vec::new();
        if let Ok(job) = serde_yaml::from_str(job) {
            urls(&job, &mut named);
        }
        // What is served wrongly on purpose is a file all the same (`meta_lava_world::faults`).
        for path in &mut named {
            let file = path.strip_prefix("faults/").and_then(|rest| rest.splitn(3, '/').nth(2));
            if let Some(file) = file.map(str::to_owned) {
                *path = file;
            }
        }
        named.sort();
        named.dedup();
        // A gate is no file, and opens whatever it is called.
        named.retain(|path| !path.starts_with("gates/") && !self.files.contains(path));
        named.into_iter().map(|path| self.problem(root, scenario, &path)).collect()
    }

    fn problem(&self, root: &Path, scenario: &Scenario, path: &str) -> Problem {
        let near = nearest(path, self.files.iter().map(String::as_str));
        let hint = match near.first() {
            Some(near) => format!("did you mean {near}?"),
            None => format!("{LIST} lists what it has"),
        };
        let message = format!("the world has no {path}; {hint}");
        let own = scenario.folder.join("scenario.yaml");
        let places = match &scenario.job {
            JobSource::Whole(_) => vec![scenario.folder.join("job.yaml")],
            JobSource::Template(template) => {
                let template = Path::new("jobs/families").join(template);
                vec![own.clone(), template.with_file_name("family.yaml"), template]
            }
        };
        for place in places {
            let text = fs::read_to_string(root.join(&place)).unwrap_or_default();
            if let Some(at) = said_at(&text, path) {
                return Problem::at(place, Some(at), message);
            }
        }
        Problem::new(own, message)
    }
}

/// Line and column where a text says `path`, or the longest part of it that is a value. A guess by
/// its looks.
fn said_at(text: &str, path: &str) -> Option<(usize, usize)> {
    let mut best: Option<(usize, (usize, usize))> = None;
    for (number, line) in text.lines().enumerate() {
        let code = line.split(" #").next().unwrap_or(line);
        let is_end = |c: char| c.is_whitespace() || "'\"{},[]".contains(c);
        let mut from = 0;
        for word in code.split(is_end) {
            let at = from;
            from += word.len() + code[from + word.len()..].chars().next().map_or(0, char::len_utf8);
            let word = word.strip_prefix(WORLD).map_or(word, |word| word.trim_start_matches('/'));
            // Keys end by a colon; what is short is in many paths.
            let fits = word.len() > 3 && path.contains(word) && !code[..at].trim().is_empty();
            if fits && best.is_none_or(|(length, _)| word.len() > length) {
                best = Some((word.len(), (number + 1, code[..at].chars().count() + 1)));
            }
        }
    }
    best.map(|(_, at)| at)
}

/// The world's files below all `url` of a job.
fn urls(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Mapping(items) => {
            for (key, value) in items {
                match value.as_str() {
                    Some(url) if key.as_str() == Some("url") => {
                        let path = url.strip_prefix(WORLD).and_then(|rest| rest.strip_prefix('/'));
                        found.extend(path.map(str::to_owned));
                    }
                    _ => urls(value, found),
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| urls(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::{folder, write};

    fn missing(root: &Path) -> Vec<String> {
        let matrix = Matrix::load(root).unwrap();
        let world = World::load(root).unwrap();
        let of = |scenario| {
            let rendered = matrix.render(scenario, Series::OLDEST).unwrap();
            world.missing(root, scenario, &rendered.job)
        };
        matrix.scenarios.iter().flat_map(of).map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn a_file_that_the_world_lacks_is_told_where_it_is_said_with_the_nearest() {
        let folder = folder();
        assert_eq!(missing(folder.path()), [""; 0]);
        write(
            folder.path(),
            "jobs/health-checks/bbb/scenario.yaml",
            "family: uboot\nwith:\n  dtb: dtb/bbbb.dtb\n",
        );
        assert_eq!(
            missing(folder.path()),
            [
                "jobs/health-checks/bbb/scenario.yaml:3:8: the world has no dtb/bbbb.dtb; did you mean dtb/bbb.dtb?"
            ]
        );
    }

    #[test]
    fn a_job_that_is_meant_to_fail_may_name_what_there_is_not() {
        let folder = folder();
        let scenario = "family: uboot\nends: incomplete\nwith: {dtb: dtb/none.dtb}\n";
        write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", scenario);
        assert_eq!(missing(folder.path()), [""; 0]);
    }

    #[test]
    fn a_familys_own_file_is_told_where_the_family_says_it() {
        let folder = folder();
        write(
            folder.path(),
            "world/artifacts.yaml",
            "login: {user: a, password: b}\nartifacts:\n  dtb/bbb.dtb: {kind: blob, size: 1}\n",
        );
        let said = missing(folder.path());
        assert_eq!(said.len(), 2);
        assert!(
            said[0].starts_with("jobs/families/uboot/family.yaml:2:16: the world has no arm/zImage; "),
            "{said:?}"
        );
        assert_eq!(said[0], said[1]);
    }

    #[test]
    fn a_list_with_a_mistake_is_told_with_its_place() {
        let folder = folder();
        let list = "login: {user: a, password: b}\nartifacts:\n  a: {kind: blob, size: 1}\n  b: {kind: fit, arch: arm, kernel: c, load: 1}\n";
        write(folder.path(), "world/artifacts.yaml", list);
        let problems = World::load(folder.path()).unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "world/artifacts.yaml:4:3: b: is made of c, which is not in the list"
        );
        write(folder.path(), "world/artifacts.yaml", "artifacts:\n\ta: 1\n");
        assert!(World::load(folder.path()).unwrap_err()[0].to_string().contains("2:1: a tab"));
    }
}
