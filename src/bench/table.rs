//! The figures, as `bench.json` has them and as a table for people.

use std::fmt::Write as _;

use serde::Serialize;

use super::cpu::{Part, Spent};
use super::ghosts::Ghosts;
use super::run::{Concurrency, Step};

/// Version of `bench.json`.
pub const VERSION: u32 = 1;

/// What the harness and the ghosts may cost of what LAVA costs.
pub const AIM_SHARE: f64 = 0.05;
/// What [`ghosts`](super::ghosts) may take, in bytes.
pub const AIM_MEMORY: u64 = 100_000_000;
/// How close to LAVA's own floor the jobs should come.
pub const AIM_FLOOR: f64 = 0.9;

/// All that was measured of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Of this format: 1.
    pub version: u32,
    /// Name of the run.
    pub run: String,
    /// LAVA's version.
    pub lava: String,
    /// Processors of the engine's machine.
    pub cores: usize,
    /// Whether the harness ran on that machine, too.
    pub local: bool,
    /// Jobs from submission to verdict.
    pub jobs: usize,
    /// Scenarios that were not as expected. They may end early, so the figures are others then.
    pub red: usize,
    /// Wall time of the run and its phases.
    pub wall: Wall,
    /// Processor time in the phase of the jobs.
    pub spent: Spent,
    /// Processor time of the whole run.
    pub whole: Whole,
    /// What jobs waited for.
    pub steps: Vec<Step>,
    /// How many were under way.
    pub concurrency: Concurrency,
    /// What boards cost beside no LAVA.
    pub ghosts: Ghosts,
}

/// Wall time, in seconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Wall {
    /// Of the run.
    pub run: f64,
    /// Finding or building images.
    pub images: f64,
    /// Starting and provisioning the stack.
    pub stack: f64,
    /// From the first submission to the last verdict.
    pub jobs: f64,
    /// Taking the stack down.
    pub cleanup: f64,
}

/// Processor time of a whole run, in seconds: of the containers since they were started, of
/// the harness since it was called.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Whole {
    /// LAVA's own.
    pub lava: f64,
    /// The boards'.
    pub ghosts: f64,
    /// The harness's.
    pub harness: f64,
}

impl Figures {
    #[allow(clippy::cast_precision_loss)] // There are not that many cores.
    fn cores(&self) -> f64 {
        self.cores.max(1) as f64
    }

    /// Wall seconds that LAVA's own jobs need on these cores, were nothing else to be done.
    #[must_use]
    pub fn floor(&self) -> f64 {
        self.spent.sum(|part| *part == Part::LavaRun) / self.cores()
    }

    #[allow(clippy::cast_precision_loss)] // There are not that many jobs.
    fn per_minute(&self, seconds: f64) -> f64 {
        self.jobs as f64 * 60.0 / seconds.max(f64::EPSILON)
    }

    /// What harness and ghosts cost of what LAVA costs, in the phase of the jobs and in all.
    #[must_use]
    pub fn shares(&self) -> (f64, f64) {
        let jobs = (self.spent.harness() + self.spent.ghosts()) / self.spent.lava().max(f64::EPSILON);
        let whole = (self.whole.harness + self.whole.ghosts) / self.whole.lava.max(f64::EPSILON);
        (jobs, whole)
    }

    /// `bench.json`: all of it, and what follows from it.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let (jobs, whole) = self.shares();
        value["ratios"] = serde_json::json!({
            "share_of_lava_jobs": jobs,
            "share_of_lava_run": whole,
            "jobs_per_minute": self.per_minute(self.wall.jobs),
            "jobs_per_minute_floor": self.per_minute(self.floor()),
            "floor_of_jobs": self.floor() / self.wall.jobs.max(f64::EPSILON),
            "floor_of_run": self.floor() / self.wall.run.max(f64::EPSILON),
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("LAVA {}, {} jobs on {} cores, one run\n", self.lava, self.jobs, self.cores);
        if self.red > 0 {
            let _ = writeln!(
                text,
                "{} of them not as expected, which may cost less or more time than one that is",
                self.red
            );
        }
        self.ratios(&mut text);
        self.processors(&mut text);
        self.clock(&mut text);
        text
    }

    fn ratios(&self, text: &mut String) {
        let (jobs, whole) = self.shares();
        let mut line = |what: &str, found: String, aim: String, met: bool| {
            let met = if met { "met" } else { "not met" };
            let _ = writeln!(text, "  {what:<44}{found:>14}   aim {aim}: {met}");
        };
        let share = |share: f64| format!("{:.1} %", share * 100.0);
        let aim = format!("under {}", share(AIM_SHARE));
        line("harness and ghosts, of LAVA's CPU, jobs", share(jobs), aim.clone(), jobs < AIM_SHARE);
        line("harness and ghosts, of LAVA's CPU, whole run", share(whole), aim, whole < AIM_SHARE);
        let ghosts = &self.ghosts;
        line(
            &format!("memory of {} boards that are off (PSS)", ghosts.boards),
            megabytes(ghosts.memory_pss),
            format!("under {}", megabytes(AIM_MEMORY)),
            ghosts.memory_pss < AIM_MEMORY,
        );
        let ratio = self.floor() / self.wall.jobs.max(f64::EPSILON);
        line("jobs per minute, of LAVA's own floor", share(ratio), share(AIM_FLOOR), ratio >= AIM_FLOOR);
        let mut plain = |what: &str, found: String| {
            let _ = writeln!(text, "  {what:<44}{found:>14}");
        };
        plain("jobs per minute", format!("{:.1}", self.per_minute(self.wall.jobs)));
        plain("jobs per minute, LAVA's own floor", format!("{:.1}", self.per_minute(self.floor())));
        plain("console of a board", format!("{}/s", megabytes(bytes(ghosts.console))));
        plain("TFTP of a board", format!("{}/s", megabytes(bytes(ghosts.tftp))));
    }

    /// Whose processor time the phase of the jobs was made of. Each row's share of the wall
    /// clock is its time over the cores; together they are the whole phase.
    fn processors(&self, text: &mut String) {
        let spent = &self.spent;
        let _ = writeln!(text, "\nThe jobs' {:.1} s, by whose processors they were\n", self.wall.jobs);
        let _ = writeln!(text, "  {:<44}{:>9}{:>9}{:>8}", "", "CPU s", "wall s", "share");
        let mut row = |what: &str, seconds: f64| {
            let wall = seconds / self.cores();
            let share = wall / self.wall.jobs.max(f64::EPSILON) * 100.0;
            let _ = writeln!(text, "  {what:<44}{seconds:>9.2}{wall:>9.2}{share:>6.1} %");
        };
        row("lava-run and what it calls: the floor", spent.sum(|part| *part == Part::LavaRun));
        let mut others: Vec<(String, f64)> = spent
            .parts
            .iter()
            .filter_map(|(part, seconds)| match part {
                Part::Lava(name) => Some((format!("LAVA: {name}"), *seconds)),
                Part::Servers(name) => Some((format!("LAVA's file servers: {name}"), *seconds)),
                _ => None,
            })
            .collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (name, seconds) in &others {
            row(name, *seconds);
        }
        let of = |part: Part| spent.sum(|other| *other == part);
        row("ghosts: daemon", of(Part::GhostDaemon));
        row("ghosts: userland of the boards", of(Part::Userland));
        row("ghosts: power and tools", of(Part::GhostTools));
        row("harness: this process", spent.harness);
        row("harness: in the containers", of(Part::HarnessInside));
        row("harness: the world", of(Part::World));
        row("containers, not told by their processes", of(Part::Rest));
        row("engine: its daemons and its file system", spent.engine);
        row("kernel: its threads", spent.kernel);
        row("others on the machine", spent.others);
        row("told by no process", spent.elsewhere);
        row("taken by the hypervisor", spent.stolen);
        row("idle", spent.idle);
    }

    fn clock(&self, text: &mut String) {
        let Wall { run, images, stack, jobs, cleanup } = self.wall;
        let _ = writeln!(text, "\nThe run's {run:.1} s, by the clock\n");
        let rest = run - images - stack - jobs - cleanup;
        for (what, seconds) in [
            ("images", images),
            ("stack", stack),
            ("jobs", jobs),
            ("cleanup", cleanup),
            ("all else of the harness", rest),
        ] {
            let share = seconds / run.max(f64::EPSILON) * 100.0;
            let _ = writeln!(text, "  {what:<44}{:>9}{seconds:>9.2}{share:>6.1} %", "");
        }
        let _ = writeln!(
            text,
            "\n  {:<16}{:>10}{:>10}{:>10}  longest one",
            "seconds of jobs", "all", "median", "longest"
        );
        for step in &self.steps {
            let Step { name, total, median, longest, of } = step;
            let _ = writeln!(text, "  {name:<16}{total:>10.1}{median:>10.2}{longest:>10.2}  {of}");
        }
        let Concurrency { most, average, tail, lonely, last } = &self.concurrency;
        let _ = writeln!(
            text,
            "\n  jobs under way: at most {most}, {average:.1} on average; {tail:.1} s from the last submission \
             on,\n  {lonely:.1} s with one or two of them; the last to end was {last}"
        );
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Rates are no more than memory's.
fn bytes(rate: f64) -> u64 {
    rate.max(0.0) as u64
}

/// In millions of bytes.
#[allow(clippy::cast_precision_loss)] // As above.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let parts = [
            (Part::LavaRun, 18.0),
            (Part::Lava("gunicorn".into()), 5.0),
            (Part::Servers("tftp".into()), 1.0),
            (Part::GhostDaemon, 0.5),
            (Part::Userland, 0.5),
            (Part::Rest, 1.0),
        ];
        Figures {
            version: VERSION,
            run: "r".into(),
            lava: "2023.01".into(),
            cores: 2,
            local: true,
            jobs: 30,
            red: 1,
            wall: Wall { run: 24.0, images: 0.5, stack: 3.0, jobs: 20.0, cleanup: 0.5 },
            spent: Spent {
                parts: parts.into(),
                harness: 0.2,
                engine: 0.5,
                kernel: 0.5,
                others: 0.25,
                elsewhere: 0.75,
                idle: 11.8,
                stolen: 0.0,
            },
            whole: Whole { lava: 40.0, ghosts: 1.0, harness: 2.0 },
            steps: vec![Step { name: "boot", total: 9.0, median: 1.0, longest: 4.0, of: "juno".into() }],
            concurrency: Concurrency { most: 12, average: 6.5, tail: 5.0, lonely: 2.0, last: "juno".into() },
            ghosts: Ghosts {
                boards: 500,
                memory_pss: 50_000_000,
                memory_rss: 60_000_000,
                console: 3e8,
                tftp: 9e7,
            },
        }
    }

    #[test]
    fn the_ratios_follow_from_the_figures() {
        let figures = figures();
        assert_eq!(figures.floor(), 9.0);
        let (jobs, whole) = figures.shares();
        assert!((jobs - 0.05).abs() < 1e-9 && (whole - 0.075).abs() < 1e-9, "{jobs} {whole}");
        let json: serde_json::Value = serde_json::from_str(&figures.json().unwrap()).unwrap();
        assert_eq!(json["ratios"]["floor_of_jobs"], 0.45);
        assert_eq!(json["ratios"]["jobs_per_minute"], 90.0);
        assert_eq!(json["spent"]["parts"][0]["whose"], "lava-run");
        assert_eq!(json["spent"]["parts"][1]["name"], "gunicorn");
    }

    #[test]
    fn the_processors_table_adds_up_to_the_phase() {
        let text = figures().text();
        let table = text.split("by whose processors").nth(1).unwrap().split("\nThe run's").next().unwrap();
        let walls = table.lines().filter(|line| line.ends_with('%')).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[words.len() - 3].parse::<f64>().unwrap()
        });
        assert!((walls.sum::<f64>() - 20.0).abs() < 0.05, "{table}");
        assert!(text.contains("aim under 5.0 %: not met") && text.contains("under 100.0 MB: met"), "{text}");
    }
}
