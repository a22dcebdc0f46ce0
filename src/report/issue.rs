//! A defect of LAVA's as an issue, in Markdown, that can be pasted into LAVA's tracker.
//!
//! All that it quotes are snapshots: normalised, so that no id, address or secret of a run is in it.
//! LAVA's words and a board's are quoted in fences that they can't close.

use std::fmt::Write as _;

use super::diff::{LineKind, hunks};
use crate::judge::defect::{self, Texts};
use crate::judge::meant::ended;
use crate::judge::snapshot::Kind;
use crate::scenario::{Defect, Rendered};
use crate::text::printable;

/// Lines of a text before one that shows the defect.
const BEFORE: usize = 6;
/// Lines after it.
const AFTER: usize = 2;
/// Lines that are quoted of one text at most.
const QUOTED: usize = 30;
/// Lines of a difference that are quoted.
const DIFFERENT: usize = 24;
/// Longest line that is quoted, in characters.
const LONG: usize = 320;

/// What an issue is made of.
#[derive(Debug, Clone, Copy)]
pub struct Issue<'a> {
    /// The scenario's name.
    pub name: &'a str,
    /// What a board of it is, as people call it.
    pub models: &'a [String],
    /// The version of LAVA, or its series where no more is known.
    pub lava: &'a str,
    /// What else is known of it: the distribution, Python, ...
    pub parts: &'a [(&'static str, String)],
    /// Where what is quoted comes from.
    pub source: &'a str,
    /// What other series do, in a sentence.
    pub others: &'a str,
    /// The job, and its devices.
    pub rendered: &'a Rendered,
    /// What LAVA did.
    pub found: Texts<'a>,
    /// The command that shows it.
    pub command: &'a str,
}

impl Issue<'_> {
    /// That LAVA has a defect which the scenario names.
    #[must_use]
    pub fn of_defect(&self, known: &Defect) -> String {
        let mut text = self.head(&known.about);
        if let Some(url) = &known.upstream {
            let _ = writeln!(text, "Known upstream as <{url}>.\n");
        }
        self.steps(&mut text);
        let _ = writeln!(text, "### What should happen\n\n{}\n", known.right.trim());
        let _ = writeln!(text, "### What happens instead\n\n{}.", known.about.trim_end_matches('.'));
        if let Some(words) = ended(self.found[0]) {
            let _ = writeln!(text, "The job ends {}.", code(&words));
        }
        text.push('\n');
        let results = quoted_results(known, self.found[0]);
        quote(&mut text, "LAVA's results:", "", &results);
        let part = |kind: Kind| known.shows.of(kind.name());
        quote(&mut text, "LAVA's log:", "", &quoted_log(part(Kind::Log), self.found[2]));
        quote(
            &mut text,
            "What LAVA did to the board, as the board saw it:",
            "",
            &quoted_ledger(part(Kind::Ledger), self.found[1]),
        );
        self.foot(&mut text);
        text
    }

    /// That LAVA does not do what it is expected to.
    #[must_use]
    pub fn of_difference(&self, reason: &str, expected: Texts<'_>) -> String {
        let mut text = self.head(&format!("{}: {}", self.name, printable(reason)));
        self.steps(&mut text);
        text.push_str("### What should happen, and what happens instead\n\n`-` is what LAVA should do, and `+` what it does.\n\n");
        let heads = ["LAVA's results:", "What LAVA did to the board, as the board saw it:", "LAVA's log:"];
        for (at, head) in heads.into_iter().enumerate() {
            quote(&mut text, head, "diff", &different(expected[at], self.found[at]));
        }
        if self.found[0] == expected[0] {
            let results: Vec<String> =
                self.found[0].lines().filter(|line| is_of_the_end(line)).map(shortened).collect();
            quote(&mut text, "The results are as they should be:", "", &results);
        }
        self.foot(&mut text);
        text
    }

    fn head(&self, title: &str) -> String {
        let mut text = format!("# {}\n\n", title.trim().trim_end_matches('.'));
        let parts: Vec<String> =
            self.parts.iter().map(|(name, value)| format!("{name} {}", printable(value))).collect();
        let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        let _ = writeln!(text, "- **LAVA:** {}{parts}", printable(self.lava));
        if !self.others.is_empty() {
            let _ = writeln!(text, "- **Other versions:** {}", self.others);
        }
        text.push('\n');
        text
    }

    fn steps(&self, text: &mut String) {
        let types: Vec<String> = {
            let mut types: Vec<String> =
                self.rendered.devices.iter().map(|device| format!("`{}`", device.device_type)).collect();
            types.dedup();
            types
        };
        let _ = writeln!(text, "### What was done\n");
        let _ = writeln!(
            text,
            "1. A device of the type {} ({}) was added, with the dictionary at the end of this issue.",
            types.join(" and of "),
            self.models.join(", ")
        );
        let _ = writeln!(text, "2. The job at the end of this issue was submitted. It has these actions:");
        for action in actions(&self.rendered.job) {
            let _ = writeln!(text, "   - {action}");
        }
        text.push('\n');
    }

    fn foot(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "### How to see it\n\nWithout a board, with meta-lava, which plays it to a real LAVA:\n\n    {}\n\n{}\n",
            self.command, self.source
        );
        folded(text, "The job", "yaml", &self.rendered.job);
        for device in &self.rendered.devices {
            folded(text, &format!("The dictionary of {}", device.hostname), "jinja", &device.dictionary);
        }
    }
}

/// The actions of a job, each in a few words.
fn actions(job: &str) -> Vec<String> {
    let job: serde_yaml::Value = serde_yaml::from_str(job).unwrap_or_default();
    let actions = job.get("actions").and_then(serde_yaml::Value::as_sequence).cloned().unwrap_or_default();
    let words = |action: &serde_yaml::Value| {
        let (kind, of) = action.as_mapping()?.iter().next()?;
        let kind = kind.as_str()?;
        let said = |key: &str| {
            let value = of.get(key)?;
            let value = match value {
                serde_yaml::Value::String(text) => text.clone(),
                serde_yaml::Value::Bool(_) | serde_yaml::Value::Number(_) => {
                    serde_yaml::to_string(value).ok()?.trim().to_owned()
                }
                serde_yaml::Value::Sequence(list) if key == "role" => {
                    list.iter().filter_map(serde_yaml::Value::as_str).collect::<Vec<_>>().join(", ")
                }
                _ => return Some(format!("with `{key}`")),
            };
            Some(format!("{key} `{}`", printable(&value)))
        };
        let keys = [
            "role",
            "to",
            "method",
            "commands",
            "repeat",
            "failure_retry",
            "use_bootscript",
            "name",
            "definitions",
            "interactive",
            "monitors",
            "services",
        ];
        let words: Vec<String> = keys.into_iter().filter_map(said).collect();
        Some(if words.is_empty() { kind.to_owned() } else { format!("{kind}: {}", words.join(", ")) })
    };
    actions.iter().filter_map(words).collect()
}

/// How the job ended, and the lines that show the defect.
fn quoted_results(known: &Defect, results: &str) -> Vec<String> {
    let shown = defect::lines(&known.shows, Kind::Results, results);
    let lines = results.lines().filter(|line| {
        let is_failure = line.contains(": fail");
        is_of_the_end(line) || is_failure || shown.contains(line)
    });
    // Where the server keeps what else it knows of a result is of no use to a reader.
    let plain = |line: &str| shortened(line.split(" (extra: ").next().unwrap_or(line));
    lines.map(plain).take(QUOTED).collect()
}

/// Whether a line of results says how the job ended.
fn is_of_the_end(line: &str) -> bool {
    ["=== ", "  health: ", "  refused by LAVA", "  message: ", "  job: fail"]
        .iter()
        .any(|head| line.starts_with(head))
}

/// The first line that shows it, with those around; where none does, LAVA's errors.
fn quoted_log(part: Option<&str>, log: &str) -> Vec<String> {
    // What the pipeline looked like is not what happened.
    let log = log.split("--- the pipeline that LAVA made of the job").next().unwrap_or(log);
    let lines: Vec<&str> = log.lines().collect();
    let is_error = |line: &&str| line.starts_with("error ") || line.starts_with("exception ");
    let at = match part {
        Some(part) => lines.iter().position(|line| line.contains(part)),
        None => lines.iter().position(is_error),
    };
    let Some(at) = at else { return Vec::new() };
    let end = (at + 1 + AFTER).min(lines.len());
    let mut quoted: Vec<String> = Vec::new();
    for line in &lines[at.saturating_sub(BEFORE)..end] {
        // A traceback is one line of LAVA's log; here it is what it was.
        let is_traceback = line.contains("Traceback (most recent call last)");
        if is_traceback {
            quoted.extend(line.split("\\n").filter(|line| !line.is_empty()).map(shortened));
        } else {
            quoted.push(shortened(line));
        }
    }
    let errors = lines[end..].iter().filter(|line| is_error(line) && !line.contains("Traceback"));
    quoted.extend(errors.map(|line| shortened(line)).take(AFTER));
    if quoted.len() > QUOTED {
        let left_out = quoted.len() - QUOTED;
        // The last words of a traceback are the telling ones.
        quoted.drain(QUOTED / 2..QUOTED / 2 + left_out);
        quoted.insert(QUOTED / 2, format!("  [… {left_out} lines]"));
    }
    quoted
}

/// The lines that show it, with those around; where none does, what came last.
fn quoted_ledger(part: Option<&str>, ledger: &str) -> Vec<String> {
    // Files within what was served, and the like, are not what LAVA did.
    let lines: Vec<&str> = ledger.lines().filter(|line| !line.starts_with("    ")).collect();
    let last = lines.len().saturating_sub(1);
    let at = part.and_then(|part| lines.iter().position(|line| line.contains(part))).unwrap_or(last);
    let (begin, end) = (at.saturating_sub(BEFORE), (at + 1 + AFTER).min(lines.len()));
    let mut quoted: Vec<String> = lines[begin..end].iter().map(|line| shortened(line)).collect();
    if begin > 0 {
        quoted.insert(0, "  […]".into());
    }
    quoted
}

/// The lines that differ, as `diff -u` has them.
fn different(expected: &str, found: &str) -> Vec<String> {
    let (hunks, left_out) = hunks(expected, found, DIFFERENT);
    let mut lines = Vec::new();
    for (number, hunk) in hunks.iter().enumerate() {
        if number > 0 {
            lines.push("@@".to_owned());
        }
        lines.extend(hunk.lines.iter().map(|line| {
            let mark = match line.kind {
                LineKind::Same => ' ',
                LineKind::Expected => '-',
                LineKind::Found => '+',
            };
            shortened(&format!("{mark}{}", line.parts.text()))
        }));
    }
    if left_out > 0 {
        lines.push(format!("[… {left_out} more lines]"));
    }
    lines
}

/// A line fit to be read, with its middle left out where it is long.
fn shortened(line: &str) -> String {
    let line = printable(line);
    let many = line.chars().count();
    if many <= LONG {
        return line;
    }
    let half = LONG / 2;
    let begin: String = line.chars().take(half).collect();
    let end: String = line.chars().skip(many - half).collect();
    format!("{begin} [… {} characters] {end}", many - 2 * half)
}

/// `lines` in a fence that none of them can close, below a headline; nothing where there are none.
fn quote(text: &mut String, head: &str, language: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let body = lines.join("\n");
    let fence = fence(&body);
    let _ = write!(text, "{head}\n\n{fence}{language}\n{body}\n{fence}\n\n");
}

/// The same, folded until somebody asks.
fn folded(text: &mut String, head: &str, language: &str, body: &str) {
    let lines: Vec<String> = body.lines().map(printable).collect();
    let body = lines.join("\n");
    let fence = fence(&body);
    let _ = write!(
        text,
        "<details><summary>{head}</summary>\n\n{fence}{language}\n{body}\n{fence}\n\n</details>\n\n"
    );
}

/// LAVA's words within a sentence, which they can't leave.
fn code(words: &str) -> String {
    let words = printable(words);
    let ticks = "`".repeat(backticks(&words) + 1);
    let blank = if words.starts_with('`') || words.ends_with('`') { " " } else { "" };
    format!("{ticks}{blank}{words}{blank}{ticks}")
}

/// Longer than any run of backticks in `body`.
fn fence(body: &str) -> String {
    "`".repeat((backticks(body) + 1).max(3))
}

/// The longest run of them.
fn backticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lava::series::Series;

    const RESULTS: &str = "job\n  health: Incomplete\nsuite lava\n  login: fail 3 s (extra: /var/x.yaml, level: 2)\n  \
                           job: fail (error_msg: no ```such``` key, error_type: Bug)";
    const LEDGER: &str =
        "board bbb-01\n  power reset\n  tree root = artifact a\n    + 644 passwd\n  power off";
    const LOG: &str = "info     | one\ninfo     | two\nexception | Traceback (most recent call last):\\n  File \"x.py\", \
                       line [LINE], in run\\n    raise KeyError\\nKeyError: no ```such``` key\\n\ninfo     | \
                       \u{1b}[2Jthree\nerror    | LAVABug: no ```such``` key\n--- the pipeline that LAVA made of the \
                       job\n1 login, no such key";

    /// An issue of what the defect in `text`, YAML, shows.
    fn issue(text: &str) -> String {
        let matrix = crate::scenario::tests::matrix();
        let rendered = matrix.render(&matrix.scenarios[0], Series::OLDEST).unwrap();
        let models = ["TI AM335x".to_owned()];
        let issue = Issue {
            name: "bbb",
            models: &models,
            lava: "2026.10-1",
            parts: &[("python", "3.14".to_owned())],
            source: "What is quoted is of the run r.",
            others: "2023.01 does not",
            rendered: &rendered,
            found: [RESULTS, LEDGER, LOG],
            command: "meta-lava run --lava debian:sid bbb",
        };
        match text {
            "" => issue.of_difference("results not as expected", ["job\n  health: Complete", LEDGER, LOG]),
            text => issue.of_defect(&serde_yaml::from_str(text).unwrap()),
        }
    }

    #[test]
    fn an_issue_has_what_a_maintainer_asks_for_and_no_quote_can_leave_its_fence() {
        let text = issue(
            "{series: '>=2026.09', about: A login is a bug., right: It works., upstream: 'https://example.org/7', \
             shows: {results: such, log: KeyError}, would_show: {log: bound}}",
        );
        let (shown, folded) = text.split_once("<details>").unwrap();
        insta::assert_snapshot!(shown);
        assert!(
            folded.contains("job_name: bbb") && folded.contains("{% extends 'beaglebone-black.jinja2' %}")
        );
    }

    #[test]
    fn a_difference_is_told_as_diff_does() {
        let text = issue("");
        assert!(text.starts_with("# bbb: results not as expected\n"), "{text}");
        assert!(text.contains("```diff\n job\n-  health: Complete\n+  health: Incomplete\n"), "{text}");
        assert!(!text.contains("LAVA's log"), "{text}");
    }

    #[test]
    fn of_a_long_line_both_ends_are_quoted() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&format!("{}{}", "a".repeat(LONG), "b".repeat(LONG)));
        assert!(long.starts_with("aaa") && long.ends_with("bbb") && long.contains(" [… 320 characters] "));
    }
}
