//! A copy of this repository's data for one test, to be broken by it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The test action of [`Repository::add_test`], up to its steps.
const TEST: &str = "{% raw %}
- test:
    timeout:
      seconds: SECONDS
    definitions:
    - from: inline
      name: NAME
      path: inline/NAME.yaml
      repository:
        metadata:
          format: Lava-Test Test Definition 1.0
          name: NAME
          description: What is printed is the test
        run:
          steps:
";

/// The copy; it goes with this.
pub struct Repository {
    folder: tempfile::TempDir,
}

/// Name of the scenario of [`Repository::with_stuck_board`].
pub const STUCK: &str = "stuck";
/// A scenario that is over in seconds.
pub const QUICK: &str = "beaglebone-black";

impl Repository {
    /// A copy of `compose/`, `boards/`, `jobs/`, `expected/` and `world/`. Of `expected/` only what
    /// is expected of bookworm's LAVA: that is the default then, and the one whose words and times
    /// these tests know.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let copy = Self { folder };
        for name in ["compose", "boards", "jobs", "expected", "world"] {
            copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name), &copy.root().join(name));
        }
        // A scenario that is left out with the oldest LAVA has nothing expected then, and its board may be no other's.
        let mut boards = BTreeSet::new();
        for suite in fs::read_dir(copy.root().join("expected")).unwrap() {
            for scenario in fs::read_dir(suite.unwrap().path()).unwrap() {
                let folder = scenario.unwrap().path();
                if fs::read_dir(&folder).unwrap().next().is_none() {
                    let of = folder.strip_prefix(copy.root().join("expected")).unwrap();
                    let job = copy.root().join("jobs").join(of);
                    if !job.exists() {
                        leave_out_of_its_table(&job);
                        fs::remove_dir(folder).unwrap();
                        continue;
                    }
                    let text = fs::read_to_string(job.join("scenario.yaml")).unwrap_or_default();
                    let board = text.lines().find_map(|line| line.strip_prefix("board: "));
                    boards.extend(board.map(str::to_owned));
                    fs::remove_dir_all(job).unwrap();
                }
            }
        }
        for suite in fs::read_dir(copy.root().join("jobs")).unwrap() {
            for scenario in fs::read_dir(suite.unwrap().path()).unwrap() {
                let scenario = scenario.unwrap().path();
                let text = fs::read_to_string(scenario.join("scenario.yaml")).unwrap_or_default();
                boards.retain(|board| !text.contains(board.as_str()) && !scenario.ends_with(board));
            }
        }
        for board in boards {
            fs::remove_file(copy.root().join(format!("boards/{board}.yaml"))).unwrap();
        }
        fs::create_dir(copy.temporary()).unwrap();
        copy
    }

    /// A copy with one more scenario: its board is silent, so that its job is still
    /// running whenever the test does something about it.
    pub fn with_stuck_board() -> Self {
        let copy = Self::new();
        let folder = format!("jobs/health-checks/{STUCK}");
        copy.write(
            &format!("{folder}/scenario.yaml"),
            "family: u-boot\nwith:\n  kernel: kernel/arm/zImage\n  \
             kernel_type: zimage\n  dtb: am335x-boneblack\n",
        );
        copy.write(
            &format!("boards/{STUCK}.yaml"),
            "device_type: beaglebone-black\nmodel: A board that is silent\nfirmware:\n  kind: script\n  steps:\n  - expect: {line: never}\n",
        );
        copy
    }

    /// A copy that has of all health checks and other scenarios one.
    pub fn with_only(scenario: &str) -> Self {
        let copy = Self::new();
        for suite in fs::read_dir(copy.root().join("jobs")).unwrap() {
            for folder in fs::read_dir(suite.unwrap().path()).unwrap() {
                let folder = folder.unwrap();
                let is_scenario = folder.path().join("scenario.yaml").exists();
                if is_scenario && folder.file_name() != scenario {
                    fs::remove_dir_all(folder.path()).unwrap();
                }
            }
        }
        copy
    }

    /// Takes over one more file of this repository.
    pub fn take(&self, path: &str) {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        self.write(path, &text);
    }

    /// Adds a scenario whose board boots as [`QUICK`]'s does and then runs `steps`, lines
    /// of shell, as the one test definition of its job, for `seconds` at most.
    pub fn add_test(&self, name: &str, seconds: u32, steps: &[String]) {
        let family = format!("jobs/families/{name}");
        let defaults = self.read("jobs/families/u-boot/family.yaml");
        self.write(&format!("{family}/family.yaml"), &defaults);
        let test = "{% include \"_parts/test.yaml\" %}";
        let job = self.read("jobs/families/u-boot/job.yaml").replace(test, "");
        let mut test = TEST.replace("NAME", name).replace("SECONDS", &seconds.to_string());
        for step in steps {
            // JSON is YAML, too.
            test.push_str(&format!("          - {}\n", serde_json::json!(step)));
        }
        // The braces of a shell are no template's; and a family's variables are all used.
        test.push_str("{% endraw %}\n# {{ cmdline }} {{ modules }}\n");
        self.write(&format!("{family}/job.yaml"), &(job + &test));
        let folder = format!("jobs/health-checks/{name}");
        let scenario = self.read(&format!("jobs/health-checks/{QUICK}/scenario.yaml"));
        let scenario = scenario.replace("family: u-boot", &format!("board: {QUICK}\nfamily: {name}"));
        self.write(&format!("{folder}/scenario.yaml"), &scenario);
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    /// Where the program under test puts its temporary files.
    pub fn temporary(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }

    /// Where it puts its report.
    pub fn report(&self) -> PathBuf {
        self.folder.path().join("report")
    }

    /// Text of a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Writes a file, in a new folder if need be.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces a text that a file has exactly once.
    #[track_caller]
    pub fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {path}");
        self.write(path, &text.replace(old, new));
    }

    /// What is still in the folder for temporary files, but for what a test has put there
    /// itself (`*.lock`).
    pub fn left_temporary(&self) -> Vec<String> {
        fs::read_dir(self.temporary())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect()
    }
}

/// Whether a folder of `expected/` has what is expected of a newer LAVA.
fn is_series(name: &str) -> bool {
    name.starts_with("20")
        && name.split_once('.').is_some_and(|(year, month)| (year.len(), month.len()) == (4, 2))
}

/// Takes a scenario out of the table (`variants`) that it is in, in another folder of its suite.
fn leave_out_of_its_table(job: &Path) {
    let name = format!("  {}:", job.file_name().unwrap().to_string_lossy());
    for scenario in fs::read_dir(job.parent().unwrap()).unwrap() {
        let path = scenario.unwrap().path().join("scenario.yaml");
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.lines().any(|line| line == name) {
            let mut is_its = false;
            let others = text.split_inclusive('\n').filter(|line| {
                let begins = !line.starts_with("   ");
                is_its = line.trim_end() == name || (is_its && !begins);
                !is_its
            });
            fs::write(&path, others.collect::<String>()).unwrap();
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            if is_series(&name.to_string_lossy()) {
                continue;
            }
            copy_folder(&entry.path(), &to.join(name));
        } else if !name.to_string_lossy().ends_with(".snap.new") {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
