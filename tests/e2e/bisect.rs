//! `git bisect run meta-lava run --bisect`: what its exit codes make git believe.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository::{QUICK, Repository};
use crate::tool::{call, meta_lava};

/// Where LAVA's source is taken from, unless `META_LAVA_UPSTREAM` says otherwise.
const UPSTREAM: &str = "https://gitlab.com/lava/lava.git";

/// Runs git in a folder, and gives what it printed.
#[track_caller]
fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "init.defaultBranch=master"];
    let mut command = Command::new("git");
    let output = command.current_dir(folder).args(identity).args(arguments).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", said(&output.stderr));
    said(&output.stdout)
}

/// A history in a folder of the repository.
struct History(PathBuf);

impl History {
    fn new(repository: &Repository) -> Self {
        let folder = repository.root().join("history");
        std::fs::create_dir(&folder).unwrap();
        git(&folder, &["init", "--quiet"]);
        Self(folder)
    }

    /// All that is there as a commit; its name.
    fn commit(&self, message: &str) -> String {
        git(&self.0, &["add", "--all"]);
        git(&self.0, &["commit", "--quiet", "--allow-empty", "--message", message]);
        git(&self.0, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Changes a file, and commits it.
    fn change(&self, message: &str, file: &str, from: &str, to: &str) -> String {
        let path = self.0.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        self.commit(message)
    }
}

/// A run of what the history has checked out, with `options`; nothing of the user's own cache.
fn run(repository: &Repository, history: &History, options: &[&str]) -> Command {
    let mut command = meta_lava(repository);
    command.env("META_LAVA_UPSTREAM", &history.0).env("XDG_CACHE_HOME", repository.temporary());
    command.args(["run", "--lava", "git"]).args(options);
    command
}

#[test]
fn a_commit_that_is_no_lava_is_skipped_also_without_an_engine() {
    let repository = Repository::new();
    let history = History::new(&repository);
    history.commit("nothing is here");
    for options in [&["--bisect", QUICK][..], &[QUICK]] {
        let ended = call(run(&repository, &history, options).env("DOCKER_HOST", "unix:///nonexistent"));
        ended.failed(125, &["is no source checkout of LAVA", "found no setup.py"]);
    }
}

#[test]
fn what_says_nothing_of_a_commit_ends_a_bisection() {
    let repository = Repository::new();
    let history = History::new(&repository);
    history.commit("nothing is here");
    let ended = |options: &[&str]| call(&mut run(&repository, &history, options)).code;
    assert_eq!((ended(&["no-such-board"]), ended(&["--bisect", "no-such-board"])), (Some(4), Some(128)));
    assert_eq!(
        (ended(&["--no-such-option"]), ended(&["--bisect", "--no-such-option"])),
        (Some(2), Some(128))
    );
    assert_eq!(ended(&["--bisect", "--keep", QUICK]), Some(128));
}

#[test]
#[ignore = "takes Docker and META_LAVA_UPSTREAM: .ci/run faults"]
fn git_bisect_names_the_bad_commit_and_skips_the_broken_one() {
    let repository = Repository::new();
    let upstream = std::env::var("META_LAVA_UPSTREAM").unwrap_or_else(|_| UPSTREAM.into());
    // The clone has its own history: what it is taken from may not be another one's to read.
    git(
        &repository.root(),
        &[
            "-c",
            "safe.directory=*",
            "clone",
            "--quiet",
            "--no-local",
            "--depth",
            "1",
            "--",
            &upstream,
            "lava",
        ],
    );
    let history = History(repository.root().join("lava"));
    let good = history.commit("good");
    // What this LAVA does is what is expected.
    let mut accept = run(&repository, &history, &["--accept", QUICK]);
    let accepted = call(accept.env_remove("CI"));
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    history.commit("good, too");
    history.commit("and good");
    let setup = "setup.py";
    // In the middle, where git looks first.
    let broken =
        history.change("broken: it can't be installed", setup, "import", "import no_such_module\nimport");
    history.change("whole again", setup, "import no_such_module\n", "");
    let bad =
        history.change("bad: a result is another one", "lava_dispatcher/power.py", "power-off", "power-gone");
    let red = history.commit("the newest");
    git(&history.0, &["bisect", "start", &red, &good]);
    let mut bisect = Command::new("git");
    let step = run(&repository, &history, &["--bisect", QUICK]);
    bisect.current_dir(&history.0).args(["bisect", "run"]).arg(step.get_program()).args(step.get_args());
    for (name, value) in step.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        bisect.env(name, value);
    }
    let ended = bisect.output().unwrap();
    let [said, told] = [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(ended.status.success(), "{said}{told}");
    assert!(said.contains(&format!("{bad} is the first bad commit")), "{said}{told}");
    let log = git(&history.0, &["bisect", "log"]);
    assert!(log.contains(&format!("git bisect skip {broken}")), "{log}");
}
