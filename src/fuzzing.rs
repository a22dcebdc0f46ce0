//! What the fuzz targets call: each function hands any bytes to one of the readers,
//! and panics where what came of them is not what the rest of the program counts on.
//!
//! A reader of several files takes them from one text, with a line `%%` between two.

use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::jobs::evidence::Evidence;
use crate::judge::normalise::heard::{self, Heard, Terminal};
use crate::judge::normalise::{
    Artifacts, Context, Masks, Normaliser, ledger, log, masks, moment, pipeline, results,
};
use crate::judge::snapshot::{Delta, File};
use crate::lava::series::Series;
use crate::lava::{actions, api, events, xmlrpc};
use crate::report::{self, RunFile};
use crate::sabotage;
use crate::scenario::Matrix;
use crate::scenario::filter::{FilterArgs, Partition};

/// LAVA's log, without a board.
pub fn lava_log(bytes: &[u8]) {
    let (masks, context) = job();
    let log = bytes.to_vec().into();
    let normaliser = Normaliser { masks: &masks, context: &context };
    is_printable(&log::normalise(&log, None, &Artifacts::default(), normaliser).text());
}

/// All that comes back of a job: its details, metadata, results (as they are in a
/// report's `raw/`), ledger, console and log.
pub fn evidence(bytes: &[u8]) {
    let evidence = evidence_of(bytes);
    let (masks, context) = job();
    let normaliser = Normaliser { masks: &masks, context: &context };
    let mut artifacts = Artifacts::default();
    for entries in evidence.ledgers.values() {
        for entry in entries {
            if let meta_lava_ghost::ledger::Event::Tree { root, source, entries } = &entry.event {
                artifacts.add(root, source, Some(entries.clone()));
            }
        }
    }
    let console = String::from_utf8_lossy(evidence.first_console()).into_owned();
    let ledger = evidence.ledgers.values().next().map(Vec::as_slice).unwrap_or_default();
    let board = log::Board::of([(0, &*console), (1, &*console)], ledger);
    for rows in [
        results::normalise(&evidence, normaliser),
        ledger::normalise(&evidence, &artifacts, normaliser),
        log::normalise(&evidence.log, Some(&board), &artifacts, normaliser),
    ] {
        is_printable(&rows.text());
        let last = rows.0.len().saturating_sub(1);
        for at in [0, last / 2, last] {
            let moment = moment::moment(&console, &rows.0, at, normaliser);
            assert!(moment.at.is_none_or(|at| at < moment.lines.len()));
            is_printable(&moment.lines.join("\n"));
        }
    }
}

/// The pipeline that LAVA made of a job.
pub fn pipeline(bytes: &[u8]) {
    let (masks, context) = job();
    is_printable(&pipeline::normalise(bytes, Normaliser { masks: &masks, context: &context }).text());
}

/// What LAVA logged of a board, against its console and what was typed there.
pub fn heard(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let [records, console, typed, sent] = parts(&text);
    let mut heard = Heard::default();
    for record in records.lines() {
        heard.target(record);
    }
    heard.input(sent);
    let typed: Vec<String> = typed.lines().map(str::to_owned).collect();
    let keys = typed.iter().filter(|line| line.len() == 1).cloned().collect();
    let terminal = Terminal { printed: console.to_owned(), typed, keys };
    for given_up in [false, true] {
        let _ = heard.fits(&[&terminal], given_up);
        let _ = heard.fits(&[&terminal, &terminal], given_up);
    }
    // A board whose every word was logged is always understood.
    let mut all = Heard::default();
    // As LAVA writes it.
    all.target(&console.replace('"', "\\\""));
    let printed = heard::squeeze(console);
    if !heard::TELNET.iter().any(|words| printed.contains(words)) {
        let terminal = Terminal { printed: terminal.printed, ..Terminal::default() };
        assert_eq!(all.fits(&[&terminal], false), heard::Fit::Same);
    }
}

/// One line of untrusted text, masked.
pub fn masks(text: &str) {
    let (masks, context) = job();
    let normaliser = Normaliser { masks: &masks, context: &context };
    for scope in [masks::Scope::Lava, masks::Scope::Board, masks::Scope::Results, masks::Scope::File] {
        let line = normaliser.line(scope, text);
        assert!(!line.contains('\n'));
        is_printable(&line);
    }
}

/// A message of LAVA's publisher.
pub fn event(text: &str) {
    let _ = events::parse(text, chrono::DateTime::UNIX_EPOCH);
}

/// A piece of a job's log, as it grows.
pub fn actions(bytes: &[u8]) {
    let mut open = actions::Open::default();
    open.take(bytes);
    if let Some(current) = open.current() {
        is_printable(&current);
        assert!(current.len() < 2000 && !current.contains('\n'));
    }
}

/// An answer of LAVA's XML-RPC.
pub fn xmlrpc(bytes: &[u8]) {
    if let Ok(outcomes) = xmlrpc::outcomes(bytes) {
        assert!(outcomes.len() <= bytes.len());
        for outcome in outcomes {
            if let xmlrpc::Outcome::Fault(fault) = outcome {
                is_printable(&fault);
            }
        }
    }
}

/// An answer of LAVA's REST API, taken for each thing that it is asked for.
pub fn rest(bytes: &[u8]) {
    fn take<T: serde::de::DeserializeOwned>(bytes: &[u8]) {
        if let Err(error) = api::parse::<T>("ask", bytes) {
            is_printable(&error.to_string());
        }
    }
    take::<api::Page>(bytes);
    take::<api::Device>(bytes);
    take::<api::Worker>(bytes);
}

/// A sabotage. What is taken of one names files below their places, and no others.
pub fn sabotage(bytes: &[u8]) {
    let folder = scratch();
    let path = folder.join("sabotages");
    std::fs::create_dir_all(&path)
        .and_then(|()| std::fs::write(path.join("x.yaml"), bytes))
        .expect("the scratch folder can be written");
    let (sabotages, problems) = sabotage::load_with_problems(&folder);
    assert_eq!(sabotages.is_empty(), !problems.is_empty());
    for problem in problems {
        let _ = problem.to_string();
    }
    for file in sabotages.iter().flat_map(|sabotage| &sabotage.change).map(|change| Path::new(&change.file)) {
        assert!(file.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{file:?}");
    }
}

/// `-E`, a name and `--partition`.
pub fn filter(text: &str) {
    static MATRIX: LazyLock<Matrix> = LazyLock::new(|| {
        let folder = repository([SCENARIO, FAMILY, JOB, BOARD]);
        Matrix::load(&folder).expect("the constants above are a matrix")
    });
    for args in [
        FilterArgs { expressions: vec![text.into()], ..FilterArgs::default() },
        FilterArgs { names: vec![text.into()], ..FilterArgs::default() },
        FilterArgs { suites: vec![text.into()], ..FilterArgs::default() },
    ] {
        if let Err(error) = args.select(&MATRIX) {
            let _ = error.to_string();
        }
    }
    if let Ok(partition) = Partition::parse(text) {
        assert!((1..=partition.of).contains(&partition.part));
    }
}

/// A scenario with its family and its board: `scenario.yaml`, `family.yaml`, the family's
/// `job.yaml`, the board's file. An empty family leaves the job to be a whole one.
pub fn scenario(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let folder = repository(parts(&text));
    let (matrix, problems) = Matrix::load_with_problems(&folder);
    for problem in problems {
        let _ = problem.to_string();
    }
    for scenario in &matrix.scenarios {
        match matrix.render(scenario, Series::OLDEST) {
            Ok(rendered) => {
                let job: serde_yaml::Value = serde_yaml::from_str(&rendered.job).expect("a job is YAML");
                let tag = rendered.devices[0].tags[0].as_str();
                let roles = job["protocols"]["lava-multinode"]["roles"].as_mapping();
                let of_roles = roles.into_iter().flatten().map(|(_, role)| &role["tags"][0]);
                assert!(of_roles.chain([&job["tags"][0]]).any(|found| found.as_str() == Some(tag)));
            }
            Err(problem) => drop(problem.to_string()),
        }
    }
}

/// A snapshot's file, and behind `%%` the text of its base; and any two texts as one and
/// its base.
pub fn snapshot(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let [file, base, _] = parts(&text);
    let folder = scratch();
    let path = folder.join("log.snap");
    std::fs::write(&path, file).expect("the scratch folder can be written");
    match File::read(&path) {
        Ok(Some(File::Text(full))) => assert!(!full.is_empty() && full.len() <= file.len()),
        Ok(Some(File::Delta(based))) => {
            if let Ok(made) = based.delta.apply(base) {
                assert!(made.len() <= 16 << 20);
            }
            assert_eq!(Delta::parse(&based.delta.to_string()).as_ref(), Ok(&based.delta));
        }
        Ok(None) => unreachable!("it was written"),
        Err(problem) => drop(problem.to_string()),
    }
    let delta = Delta::between(base, file);
    assert_eq!(delta.apply(base).as_deref(), Ok(file));
}

/// `run.json` of one or more parts of a run, as `rerun` and `merge` read them.
pub fn run_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let folder = Path::new("report");
    let files: Vec<_> = text
        .split("\n%%\n")
        .filter_map(|text| RunFile::parse(folder, text.as_bytes()).ok())
        .enumerate()
        .map(|(number, file)| (Path::new("part").join(number.to_string()), file))
        .collect();
    if let Ok(run) = report::merge("all", Path::new("no-such-report"), files) {
        let written = report::texts(&run).expect("what was read can be reported");
        RunFile::parse(folder, written.as_bytes()).expect("what was written can be read");
    }
}

/// A job's details, ledger and log, for its timeline.
pub fn timeline(bytes: &[u8]) {
    for span in crate::jobs::timeline::timeline(&evidence_of(bytes)) {
        assert!(span.from.is_finite() && span.to.is_finite() && span.from <= span.to);
        is_printable(&span.name);
    }
}

/// A job of a run, with what is known of it exactly.
fn job() -> (Masks, Context) {
    let mut context = Context::new(Some("12"));
    context.add("[DISPATCHER_IP]", "172.18.0.4").add("[WORKER]", "worker-1").add_port(21000);
    (Masks::new(), context)
}

/// What goes to a snapshot or a terminal: nothing that either would act on, and lines that end.
fn is_printable(text: &str) {
    for line in text.lines() {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() < 1 << 20, "a line of {} bytes", line.len());
    }
}

fn parts<const N: usize>(text: &str) -> [&str; N] {
    let mut parts = text.splitn(N, "\n%%\n");
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn evidence_of(bytes: &[u8]) -> Evidence {
    let text = String::from_utf8_lossy(bytes);
    let [details, metadata, results, ledger, console, log] = parts(&text);
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let suite = |suite: &Value| {
        let tests = suite.get("tests").and_then(Value::as_array).cloned().unwrap_or_default();
        (suite.get("suite").and_then(Value::as_str).unwrap_or_default().to_owned(), tests)
    };
    Evidence {
        job: Some("12".into()),
        details: json(details),
        metadata: json(metadata),
        suites: json(results).as_array().into_iter().flatten().map(suite).collect(),
        ledgers: [(
            "b-01".to_owned(),
            ledger.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        )]
        .into(),
        blobs: [("aa".to_owned(), console.as_bytes().to_vec())].into(),
        consoles: [("b-01".into(), console.as_bytes().to_vec())].into(),
        log: log.as_bytes().to_vec().into(),
        ..Evidence::default()
    }
}

const SCENARIO: &str = "family: f\ntags: [slow]\n";
const FAMILY: &str = "about: x\n";
const JOB: &str =
    "job_name: x\ndevice_type: {{ device_type }}\nvisibility: public\ntimeouts: {}\nactions: []\n";
const BOARD: &str = "model: x\nfirmware: {kind: u-boot, banner: U-Boot 2023.01, arch: arm, boot: [bootz]}\n";

/// A folder of this process and, until it is dropped, of this caller.
struct Scratch(MutexGuard<'static, tempfile::TempDir>);

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.path()
    }
}

fn scratch() -> Scratch {
    static FOLDER: LazyLock<Mutex<tempfile::TempDir>> =
        LazyLock::new(|| Mutex::new(tempfile::tempdir().expect("a temporary folder can be made")));
    Scratch(FOLDER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A repository with one scenario.
fn repository([scenario, family, job, board]: [&str; 4]) -> Scratch {
    let folder = scratch();
    let write = |path: &str, text: &str| {
        let path = folder.join("jobs").join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| std::fs::write(&path, text))
            .expect("the scratch folder can be written");
    };
    write("s/suite.yaml", "about: x\n");
    write("s/b/scenario.yaml", scenario);
    write("../boards/b.yaml", board);
    if family.is_empty() {
        write("s/b/job.yaml", job);
        let _ = std::fs::remove_dir_all(folder.join("jobs/families"));
    } else {
        write("families/f/family.yaml", family);
        write("families/f/job.yaml", job);
        let _ = std::fs::remove_file(folder.join("jobs/s/b/job.yaml"));
    }
    folder
}
