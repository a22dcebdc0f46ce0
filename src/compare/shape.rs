//! A text in the shape in which it is compared with another LAVA's: sections that correspond by
//! name, not by their place.
//!
//! A LAVA that runs an action earlier than another one did moves a part of its log, and numbers
//! all actions that follow anew. Line by line that is hundreds of differences; here it is one, told
//! where it happens. So a section is what one action logged, what one test case came to, or
//! what is known of one file of a tree, and what stands in the place of an action's number is its name.
//! The order of sections is told by the section around them, which has a line for each.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Captures, Regex};

use crate::judge::snapshot::{HEADER, Kind};

/// A line of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says, with names of actions for their numbers.
    pub text: String,
    /// The same with their numbers, as it stands in the text.
    pub raw: String,
    /// Its number in the snapshot's file, from 1.
    pub at: usize,
}

/// The lines that are compared with those of the same section of another text; by its name.
pub type Sections = BTreeMap<String, Vec<Line>>;

/// What LAVA calls the actions of a job: `1.4.2` is `lava-overlay`.
#[derive(Debug, Default, Clone)]
pub struct Actions(BTreeMap<String, String>);

/// The actions of each job of a scenario, by the job's name; empty where there is only one job.
pub type ActionsOfJobs = BTreeMap<String, Actions>;

const BOARD: &str = "--- what the board printed";
const PIPELINE: &str = "--- the pipeline";

/// The actions that a log tells of.
#[must_use]
pub fn actions(log: &str) -> ActionsOfJobs {
    let mut found = ActionsOfJobs::new();
    for (job, lines) in jobs(log) {
        let actions = found.entry(job).or_default();
        let mut in_pipeline = false;
        for (_, line) in lines {
            in_pipeline |= line.starts_with(PIPELINE);
            let action = if in_pipeline { planned(line) } else { marker(line) };
            if let Some(Marker { level, name, .. }) = action {
                actions.0.entry(level.to_owned()).or_insert_with(|| name.to_owned());
            }
        }
    }
    found
}

/// `text` in its sections. `actions` are those of the scenario's log.
#[must_use]
pub fn shape(kind: Kind, text: &str, actions: &ActionsOfJobs) -> Sections {
    let mut sections = Sections::new();
    let none = Actions::default();
    for (job, lines) in jobs(text) {
        let mut into =
            Writer { sections: &mut sections, actions: actions.get(&job).unwrap_or(&none), job: &job };
        match kind {
            Kind::Results => results(&lines, &mut into),
            Kind::Ledger => ledger(&lines, &mut into),
            Kind::Log => log(&lines, &mut into),
        }
    }
    sections
}

/// The parts of a text, one for each job of its scenario, with the numbers of their lines.
fn jobs(text: &str) -> Vec<(String, Vec<(usize, &str)>)> {
    let mut jobs: Vec<(String, Vec<(usize, &str)>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match line.strip_prefix("=== ") {
            Some(job) => jobs.push((job.to_owned(), Vec::new())),
            None => {
                if jobs.is_empty() {
                    jobs.push((String::new(), Vec::new()));
                }
                let last = jobs.len() - 1;
                jobs[last].1.push((HEADER + at + 1, line));
            }
        }
    }
    jobs
}

struct Writer<'a> {
    sections: &'a mut Sections,
    actions: &'a Actions,
    job: &'a str,
}

impl Writer<'_> {
    fn put(&mut self, section: &str, at: usize, line: &str) {
        self.put_as(section, at, line, self.actions.named(line));
    }

    /// Puts `text` in the place of `raw`.
    fn put_as(&mut self, section: &str, at: usize, raw: &str, text: String) {
        let name = if self.job.is_empty() { section.to_owned() } else { format!("{}: {section}", self.job) };
        self.sections.entry(name).or_default().push(Line { text, raw: raw.to_owned(), at });
    }
}

/// A section for all cases of one name in a suite, and one that has their order.
fn results(lines: &[(usize, &str)], into: &mut Writer<'_>) {
    let mut suite = None;
    for (at, line) in lines {
        match line.strip_prefix("  ") {
            Some(case) if suite.is_some() => {
                let suite = suite.unwrap_or_default();
                let name = case.split_once(": ").map_or(case, |(name, _)| name);
                into.put(&format!("{suite}, {name}"), *at, line);
                let name = format!("  {name}");
                into.put_as(&format!("{suite}, {ORDER}"), *at, &name, name.clone());
            }
            _ => {
                suite = line.starts_with("suite ").then_some(*line);
                into.put("", *at, line);
            }
        }
    }
}

/// Name of a section that has the order of others. What only one text has is left out of it, since its
/// own section tells.
pub const ORDER: &str = "in order";

/// Whether a section is of the pipeline that LAVA made of a job.
#[must_use]
pub fn is_of_pipeline(section: &str) -> bool {
    section.contains(PIPELINE)
}

/// What happened, in its order, but a section for each entry of a tree of files: they are a set.
fn ledger(lines: &[(usize, &str)], into: &mut Writer<'_>) {
    let (mut board, mut tree) = (String::new(), String::new());
    let mut trees: BTreeMap<String, usize> = BTreeMap::new();
    for (at, line) in lines {
        if let Some(entry) = line.strip_prefix("    ").filter(|_| !tree.is_empty()) {
            into.put(&format!("{board}{tree} {}", path(entry)), *at, line);
            continue;
        }
        tree.clear();
        if let Some(rest) = line.strip_prefix("  tree ") {
            let name = format!("tree {}", rest.split_once(" = ").map_or(rest, |(name, _)| name));
            let number = trees.entry(format!("{board}{name}")).or_default();
            *number += 1;
            tree = format!("{name} {number}");
        } else if line.starts_with("board ") {
            board = format!("{line}, ");
        }
        into.put(&board, *at, line);
    }
}

/// The path of `+ 644 etc/passwd 0123…`, `- lib/x`, `! 755 bin/sh … (was …)`.
fn path(entry: &str) -> &str {
    let mut words = entry.splitn(2, ' ');
    let (_, rest) = (words.next(), words.next().unwrap_or_default());
    let is_mode = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_digit(8));
    match rest.split_once(' ') {
        Some((mode, rest)) if is_mode(mode) => rest.split(' ').next().unwrap_or(rest),
        _ => rest.split(" -> ").next().unwrap_or(rest),
    }
}

/// A section for what each action logged, one for the board, and one for each action in the pipeline.
fn log(lines: &[(usize, &str)], into: &mut Writer<'_>) {
    let mut open: Vec<&str> = Vec::new();
    let mut part = "";
    for (at, line) in lines {
        if line.starts_with("--- ") {
            part = if line.starts_with(PIPELINE) { PIPELINE } else { BOARD };
        }
        if part == PIPELINE {
            let name = planned(line).map_or("", |action| action.name);
            into.put(&format!("{PIPELINE} {name}"), *at, line);
        } else if part == BOARD {
            into.put(BOARD, *at, line);
        } else {
            let action = marker(line);
            if let Some(action) = &action {
                // The action around it is as deep as its number is long, also where LAVA did not say that
                // one before has ended.
                open.truncate(action.level.matches('.').count());
            }
            let section = open.last().map_or_else(|| "the job".into(), |name| format!("action {name}"));
            into.put(&section, *at, line);
            if let Some(action) = action.filter(|action| action.begins) {
                open.push(action.name);
            }
        }
    }
}

/// Where an action begins or ends.
struct Marker<'a> {
    begins: bool,
    level: &'a str,
    name: &'a str,
}

/// `debug    | start: 1.1 lava-overlay (timeout …`
fn marker(line: &str) -> Option<Marker<'_>> {
    let (_, text) = line.split_once(" | ")?;
    let (begins, rest) = match text.strip_prefix("start: ") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("end: ")?),
    };
    let (level, rest) = rest.split_once(' ')?;
    let name = rest.split(' ').next()?;
    (is_level(level) && !name.is_empty()).then_some(Marker { begins, level, name })
}

/// `1.1 lava-overlay, 60 s, …`
fn planned(line: &str) -> Option<Marker<'_>> {
    let (level, rest) = line.split_once(' ')?;
    let (name, _) = rest.split_once(", ")?;
    (is_level(level) && !name.contains(' ')).then_some(Marker { begins: true, level, name })
}

fn is_level(word: &str) -> bool {
    word.split('.').all(|part| !part.is_empty() && part.len() < 6 && part.bytes().all(|b| b.is_ascii_digit()))
}

impl Actions {
    /// `line` with names for the numbers of actions, where LAVA writes such a number. Anything else
    /// that looks like one, such as a version, stays.
    fn named(&self, line: &str) -> String {
        if self.0.is_empty() {
            return line.to_owned();
        }
        // `start: 1.1 `, `"level": "1.1"`, `level: 1.1,`, `12_1.1`, `overlay-1.1.4.tar.gz`,
        // `lava-test-overlay-1.1.3.2.yaml`, and the first word of a line of the pipeline.
        static PLACES: std::sync::LazyLock<Regex> = std::sync::LazyLock::new(|| {
            Regex::new(
                r#"(?x) ( \|\x20(?:start|end):\x20 | level"?:\x20"? | \[JOB_ID(?:\x20of[^\]]*)?\]_ | -
                        | ^ ) ( [0-9]{1,5} (?:\.[0-9]{1,5})* ) ( [\x20",)>_] | \.tar | \.yaml | $ )"#,
            )
            .unwrap_or_else(|error| unreachable!("the pattern is a constant: {error}"))
        });
        PLACES
            .replace_all(line, |found: &Captures<'_>| match self.0.get(&found[2]) {
                // A dash alone is a number's place only in the name of a file.
                Some(name) if &found[1] != "-" || found[3].starts_with('.') => {
                    format!("{}[level of {name}]{}", &found[1], &found[3])
                }
                _ => found[0].to_owned(),
            })
            .into_owned()
    }
}

/// The lines of `ours` that `theirs` has, too.
pub fn common(ours: &[Line], theirs: &[Line]) -> Vec<Line> {
    let known: BTreeSet<&str> = theirs.iter().map(|line| line.text.as_str()).collect();
    ours.iter().filter(|line| known.contains(line.text.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, text: &str) -> Vec<String> {
        let log = "info     | start: 1 deploy (timeout [TIMEOUT])\ninfo     | start: 1.2 overlay (x)\n";
        let actions = actions(if kind == Kind::Log { text } else { log });
        let sections = shape(kind, text, &actions);
        let lines = |(name, lines): (&String, &Vec<Line>)| {
            let lines: Vec<String> = lines.iter().map(|line| format!("{}:{}", line.at, line.text)).collect();
            format!("{name} = {}", lines.join(" | "))
        };
        sections.iter().map(lines).collect()
    }

    #[test]
    fn what_an_action_logged_is_a_section_and_its_number_is_its_name() {
        let log = "\
info     | start: 1 deploy (timeout [TIMEOUT])
debug    | first
debug    | start: 1.1 overlay (timeout [TIMEOUT])
debug    | inside 1.1 of 1.1
debug    | end: 1.1 overlay (duration [DURATION])
debug    | uuid=[JOB_ID]_1.1 in lava-overlay-1.1.yaml, version 1.1
--- what the board printed; LAVA logged the same
board    | start: 1.1 x
--- the pipeline that LAVA made of the job
1 deploy, 60 s [class]
1.1 overlay, 60 s [class]";
        insta::assert_snapshot!(told(Kind::Log, log).join("\n"), @r"
        --- the pipeline  = 13:--- the pipeline that LAVA made of the job
        --- the pipeline deploy = 14:[level of deploy] deploy, 60 s [class]
        --- the pipeline overlay = 15:[level of overlay] overlay, 60 s [class]
        --- what the board printed = 11:--- what the board printed; LAVA logged the same | 12:board    | start: [level of overlay] x
        action deploy = 6:debug    | first | 7:debug    | start: [level of overlay] overlay (timeout [TIMEOUT]) | 9:debug    | end: [level of overlay] overlay (duration [DURATION]) | 10:debug    | uuid=[JOB_ID]_[level of overlay] in lava-overlay-[level of overlay].yaml, version 1.1
        action overlay = 8:debug    | inside 1.1 of 1.1
        the job = 5:info     | start: [level of deploy] deploy (timeout [TIMEOUT])
        ");
    }

    #[test]
    fn a_case_of_a_suite_is_a_section_and_so_is_an_entry_of_a_tree() {
        let results = "job\n  health: Complete\nsuite lava\n  overlay: pass (level: 1.2, x)\n  job: pass";
        insta::assert_snapshot!(told(Kind::Results, results).join("\n"), @r"
         = 5:job | 6:  health: Complete | 7:suite lava
        suite lava, in order = 8:  overlay | 9:  job
        suite lava, job = 9:  job: pass
        suite lava, overlay = 8:  overlay: pass (level: [level of overlay], x)
        ");
        let ledger = "\
board a
  tree ramdisk = artifact r
    + 755 lava-[JOB_ID]/
    + 644 lava-[JOB_ID]/uuid 3ca8a58dd51b85d3
    - bin/x
    + lib -> usr/lib
  power off";
        insta::assert_snapshot!(told(Kind::Ledger, ledger).join("\n"), @r"
        board a,  = 5:board a | 6:  tree ramdisk = artifact r | 11:  power off
        board a, tree ramdisk 1 bin/x = 9:    - bin/x
        board a, tree ramdisk 1 lava-[JOB_ID]/ = 7:    + 755 lava-[JOB_ID]/
        board a, tree ramdisk 1 lava-[JOB_ID]/uuid = 8:    + 644 lava-[JOB_ID]/uuid 3ca8a58dd51b85d3
        board a, tree ramdisk 1 lib = 10:    + lib -> usr/lib
        ");
    }

    #[test]
    fn each_job_of_a_scenario_has_its_own_numbers_and_sections() {
        let log = "\
=== server
info     | start: 1 deploy (x)
=== client 1
info     | start: 1 boot (x)
info     | \"level\": \"1\"";
        insta::assert_snapshot!(told(Kind::Log, log).join("\n"), @r#"
        client 1: action boot = 9:info     | "level": "[level of boot]"
        client 1: the job = 8:info     | start: [level of boot] boot (x)
        server: the job = 6:info     | start: [level of deploy] deploy (x)
        "#);
    }
}
