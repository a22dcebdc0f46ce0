//! LAVA's own repository: cloned once into the cache, fetched on use, and one commit of it laid
//! out in a folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use tempfile::TempDir;
use tokio::process::Command;

use super::source;
use crate::error::{Error, Infrastructure, Result};
use crate::programs::has_program;
use crate::text::printable;

/// Where LAVA is developed, unless `META_LAVA_UPSTREAM` says otherwise.
const UPSTREAM: &str = "https://gitlab.com/lava/lava.git";
/// What the remote's own branch is called here.
const HEAD: &str = "refs/meta-lava/head";
/// What was asked for by a name that no clone has, such as a merge request's.
const ASKED: &str = "refs/meta-lava/asked";
/// How git fetches: also from a clone that has a part of the history only, as CI makes them.
const FETCHING: [&str; 3] = ["fetch", "--quiet", "--update-shallow"];
/// The whole history is some 60 MB.
const CLONE: Duration = Duration::from_secs(900);
/// A remote that has not told what is new by then does not answer.
const FETCH: Duration = Duration::from_secs(120);

/// A commit of LAVA's, laid out.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Removed with the last one who knows of it.
    folder: Arc<TempDir>,
    /// The commit.
    pub commit: String,
}

impl Checkout {
    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Lays out `reference`, or what the remote calls its own branch; the clone is in `cache`, see
/// [`crate::root::cache`].
///
/// # Errors
/// [`Error::Usage`] when there is no such branch, tag or commit, [`Error::BrokenCommit`] when it is no LAVA;
/// [`Error::Infrastructure`] when there is no clone and none can be made.
pub async fn checkout(
    cache: &Path,
    reference: Option<&str>,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Checkout> {
    let clone = Clone::fetched(cache, progress).await?;
    let commit = clone.find(reference).await?;
    let folder = clone.lay_out(&commit).await?;
    let named = format!("{} of {}", &commit[..12.min(commit.len())], clone.remote);
    source::check(folder.path(), &named)
        .map_err(|error| Error::BrokenCommit(Infrastructure::found(error)))?;
    Ok(Checkout { folder: Arc::new(folder), commit })
}

/// A commit, and what it changed.
#[derive(Debug)]
pub struct Commit {
    /// Its hash.
    pub id: String,
    /// Its day, `2026-08-21`.
    pub date: String,
    /// The first line of its message.
    pub subject: String,
    /// The files that it changed; not those that it added or removed.
    pub changed: Vec<Changed>,
}

/// A file of a [`Commit`].
#[derive(Debug)]
pub struct Changed {
    /// Its path in the repository.
    pub path: String,
    /// Its text without the commit.
    pub before: String,
    /// Its text with the commit.
    pub after: String,
}

/// Words of a message that says that something is fixed; a regular expression of git's.
const FIXES: &str =
    r"\b(fix(es|ed|ing)?|bugs?|regressions?|crash(es|ed)?|wrong(ly)?|broken|correct(s|ed|ly)?|tracebacks?)\b";
/// Where LAVA's programs and templates are.
const PROGRAMS: [&str; 9] = [
    "etc/dispatcher-config",
    "lava_common",
    "lava_dispatcher",
    "lava_rest_app",
    "lava_results_app",
    "lava_scheduler_app",
    "lava_server",
    "linaro_django_xmlrpc",
    ":(exclude)*/tests/*",
];

/// The commits of `range` that touch LAVA's programs and templates, the newest first: those whose
/// message says that they fix something, or `all` of them. A range is `SINCE..UNTIL`, each a branch, a
/// tag, a commit or a day (`2026-08-21`); nothing at the end is the newest commit. The clone is in
/// `cache`, see [`crate::root::cache`].
///
/// # Errors
/// [`Error::Usage`] when it is no range, or there is no such commit; [`Error::Infrastructure`] when there is
/// no clone and none can be made.
pub async fn commits(
    cache: &Path,
    range: &str,
    all: bool,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Vec<Commit>> {
    // git would take a beginning that is empty for the newest commit.
    let Some((since, until)) = range.split_once("..").filter(|(since, _)| !since.is_empty()) else {
        return Err(Error::Usage(format!("{range:?} is no range; write it as SINCE..UNTIL")));
    };
    let clone = Clone::fetched(cache, progress).await?;
    clone.commits(since, until, all).await
}

/// A clone without a work tree.
struct Clone {
    remote: String,
    path: PathBuf,
}

impl Clone {
    /// The one in `cache`, brought up to date.
    async fn fetched(cache: &Path, progress: &(dyn Fn(String) + Send + Sync)) -> Result<Self> {
        let remote = std::env::var("META_LAVA_UPSTREAM").ok().filter(|remote| !remote.is_empty());
        let clone = Self::of(cache, remote.unwrap_or_else(|| UPSTREAM.to_owned()))?;
        clone.fetch(progress).await?;
        Ok(clone)
    }

    fn of(cache: &Path, remote: String) -> Result<Self> {
        if !has_program("git") {
            return Err(Error::infrastructure("LAVA's repository needs the program git; install it"));
        }
        let name = meta_lava_formats::sha256(remote.as_bytes());
        Ok(Self { path: cache.join("upstream").join(format!("{}.git", &name[..16])), remote })
    }

    /// Brings it up to date. One that is there already is good enough where the remote is silent.
    async fn fetch(&self, progress: &(dyn Fn(String) + Send + Sync)) -> Result<()> {
        let new = self.resolve(HEAD).await.is_none();
        progress(format!("{} {}", if new { "cloning" } else { "fetching" }, printable(&self.remote)));
        if new {
            let path = self.path.to_string_lossy().into_owned();
            self.git(&["init", "--quiet", "--bare", &path], FETCH).await.map_err(|why| self.failed(&why))?;
        }
        let refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", &format!("+HEAD:{HEAD}")];
        let arguments = ["--prune", "--no-auto-gc", "--end-of-options", &self.remote];
        let arguments: Vec<&str> = FETCHING.into_iter().chain(arguments).chain(refs).collect();
        match self.git(&arguments, if new { CLONE } else { FETCH }).await {
            Ok(_) => Ok(()),
            Err(why) if !new => {
                progress(format!("{}; going on with what was fetched before", self.failed(&why).brief()));
                Ok(())
            }
            Err(why) => Err(self.failed(&why)),
        }
    }

    fn failed(&self, why: &str) -> Error {
        let remote = printable(&self.remote);
        Error::failed(format!("fetch LAVA from {remote} (META_LAVA_UPSTREAM names another place)"), why)
    }

    /// The commit that is meant.
    async fn find(&self, reference: Option<&str>) -> Result<String> {
        let Some(name) = reference else {
            return self.resolve(HEAD).await.ok_or_else(|| self.failed("it has no branch of its own"));
        };
        for full in [format!("refs/heads/{name}"), format!("refs/tags/{name}"), name.to_owned()] {
            if let Some(commit) = self.resolve(&full).await {
                return Ok(commit);
            }
        }
        let one = format!("+{name}:{ASKED}");
        let arguments = [&FETCHING[..], &["--end-of-options", &self.remote, &one]].concat();
        let fetched = self.git(&arguments, FETCH).await;
        match (fetched, self.resolve(ASKED).await) {
            (Ok(_), Some(commit)) => Ok(commit),
            _ => Err(Error::Usage(format!(
                "git:{name}: {} has no branch, tag or commit of this name",
                printable(&self.remote)
            ))),
        }
    }

    async fn resolve(&self, name: &str) -> Option<String> {
        let commit = format!("{name}^{{commit}}");
        let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
        let out = self.git(&arguments, FETCH).await.ok()?;
        let commit = String::from_utf8(out).ok()?.trim().to_owned();
        (!commit.is_empty()).then_some(commit)
    }

    /// See [`commits`].
    async fn commits(&self, since: &str, until: &str, all: bool) -> Result<Vec<Commit>> {
        let is_a_day = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
        let mut arguments = vec!["log".to_owned(), "--no-merges".into(), "--format=%H %cs %s".into()];
        if !all {
            arguments.extend([
                "--regexp-ignore-case".into(),
                "--perl-regexp".into(),
                format!("--grep={FIXES}"),
            ]);
        }
        let newest = match until {
            day if is_a_day(day) => {
                arguments.push(format!("--until={day} 23:59:59"));
                self.find(None).await?
            }
            name => self.find(Some(name).filter(|name| !name.is_empty())).await?,
        };
        match since {
            day if is_a_day(day) => arguments.push(format!("--since={day} 00:00:00")),
            name => arguments.push(format!("^{}", self.find(Some(name)).await?)),
        }
        arguments.extend([newest, "--".into()]);
        arguments.extend(PROGRAMS.map(str::to_owned));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let failed = |why: String| Error::failed(format!("read the history {since}..{until} of LAVA"), why);
        let printed = self.git(&arguments, FETCH).await.map_err(failed)?;
        let mut commits = Vec::new();
        for line in String::from_utf8_lossy(&printed).lines() {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let mut next = || words.next().unwrap_or_default();
            let (id, date, subject) = (next(), next(), next());
            let changed = self.changed(&id).await.map_err(failed)?;
            commits.push(Commit { id, date, subject, changed });
        }
        Ok(commits)
    }

    /// The files that a commit changed, as they were and as they are.
    async fn changed(&self, commit: &str) -> Result<Vec<Changed>, String> {
        let arguments = ["diff-tree", "-r", "-z", "--no-commit-id", "--name-only", "--diff-filter=M", commit];
        let arguments = [&arguments[..], &["--"], &PROGRAMS[..]].concat();
        let names = self.git(&arguments, FETCH).await?;
        let names = String::from_utf8_lossy(&names).into_owned();
        let mut changed = Vec::new();
        for path in names.split('\0').filter(|name| !name.is_empty()) {
            let text = async |commit: &str| {
                let text = self.git(&["cat-file", "blob", &format!("{commit}:{path}")], FETCH).await?;
                Ok::<_, String>(String::from_utf8_lossy(&text).into_owned())
            };
            let (before, after) = (text(&format!("{commit}^")).await?, text(commit).await?);
            changed.push(Changed { path: path.to_owned(), before, after });
        }
        Ok(changed)
    }

    /// The files of a commit, with the version that LAVA gives to a clone (`lava_common/version.py`).
    async fn lay_out(&self, commit: &str) -> Result<TempDir> {
        let failed = |why: String| Error::failed(format!("check out LAVA's {commit}"), why);
        let tar = self.git(&["archive", "--format=tar", commit], FETCH).await.map_err(failed)?;
        let described = self.git(&["describe", "--match=[0-9]*", commit], FETCH).await.ok();
        let folder = tempfile::Builder::new().prefix("meta-lava-source-").tempdir();
        let folder = folder.map_err(|error| failed(error.to_string()))?;
        let path = folder.path().to_owned();
        let unpacked = tokio::task::spawn_blocking(move || {
            tar::Archive::new(tar.as_slice()).unpack(&path)?;
            match described.and_then(|text| version(&String::from_utf8_lossy(&text))) {
                Some(version) => std::fs::write(path.join("lava_common/VERSION"), format!("{version}\n")),
                None => Ok(()),
            }
        });
        unpacked
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(folder)
    }

    /// Runs git, and gives what it prints or why it failed.
    async fn git(&self, arguments: &[&str], deadline: Duration) -> Result<Vec<u8>, String> {
        let mut command = Command::new("git");
        if arguments.first() != Some(&"init") {
            command.arg("--git-dir").arg(&self.path);
        }
        command
            // A clone of another user's, such as a mirror of the machine's, is read and not run.
            .args(["-c", "safe.directory=*", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30"])
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(deadline, command.output())
            .await
            .map_err(|_| format!("git did not end in {} s", deadline.as_secs()))?
            .map_err(|error| format!("could not start git: {error}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        // Advice follows.
        let said = String::from_utf8_lossy(&output.stderr);
        let fatal = said.lines().find_map(|line| line.strip_prefix("fatal: ")).or(said.lines().last());
        Err(fatal.map_or_else(|| format!("git ended with {}", output.status), printable))
    }
}

/// `2026.07-28-gd27bcfdb5` as LAVA says it: `2026.07.dev0028`.
fn version(described: &str) -> Option<String> {
    let described = described.trim();
    let parts: Vec<&str> = described.rsplitn(3, '-').collect();
    if let [hash, commits, tag] = parts.as_slice()
        && hash.starts_with('g')
        && let Ok(commits) = commits.parse::<u32>()
    {
        return Some(format!("{tag}.dev{commits:04}"));
    }
    (!described.is_empty()).then(|| described.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::Exit;

    async fn git(folder: &Path, arguments: &[&str]) {
        let identity =
            ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "init.defaultBranch=master"];
        let output = Command::new("git").current_dir(folder).args(identity).args(arguments).output().await;
        assert!(output.unwrap().status.success(), "{arguments:?}");
    }

    #[tokio::test]
    async fn a_commit_is_found_by_each_of_its_names_and_laid_out_with_its_version() {
        let remote = source::tests::lava();
        git(remote.path(), &["init", "--quiet"]).await;
        git(remote.path(), &["add", "."]).await;
        git(remote.path(), &["commit", "--quiet", "--message", "one"]).await;
        git(remote.path(), &["tag", "--annotate", "--message", "x", "2026.07"]).await;
        source::tests::write(remote.path(), "new", "");
        git(remote.path(), &["add", "."]).await;
        git(remote.path(), &["commit", "--quiet", "--message", "two"]).await;
        git(remote.path(), &["update-ref", "refs/merge-requests/7/head", "HEAD~1"]).await;
        let cache = tempfile::tempdir().unwrap();
        let clone = Clone::of(cache.path(), remote.path().to_string_lossy().into_owned()).unwrap();
        clone.fetch(&|_| {}).await.unwrap();
        let newest = clone.find(None).await.unwrap();
        assert_eq!(clone.find(Some("master")).await.unwrap(), newest);
        assert_eq!(clone.find(Some(&newest)).await.unwrap(), newest);
        let release = clone.find(Some("2026.07")).await.unwrap();
        assert_ne!(release, newest);
        assert_eq!(clone.find(Some("refs/merge-requests/7/head")).await.unwrap(), release);
        let said = clone.find(Some("nowhere")).await.unwrap_err();
        assert_eq!(said.exit(), Exit::Usage);
        assert!(said.to_string().contains("nowhere"), "{said}");
        let version =
            |folder: &TempDir| std::fs::read_to_string(folder.path().join("lava_common/VERSION")).unwrap();
        let folder = clone.lay_out(&newest).await.unwrap();
        assert!(folder.path().join("new").is_file());
        assert_eq!(version(&folder), "2026.07.dev0001\n");
        assert_eq!(version(&clone.lay_out(&release).await.unwrap()), "2026.07\n");
        // What was fetched before is good enough where the remote is silent.
        drop(remote);
        clone.fetch(&|_| {}).await.unwrap();
        assert_eq!(clone.find(None).await.unwrap(), newest);
    }

    #[tokio::test]
    async fn a_range_has_the_commits_that_fix_something_or_all_of_them() {
        let remote = source::tests::lava();
        let commit = async |text: &str, message: &str| {
            source::tests::write(remote.path(), "lava_dispatcher/power.py", text);
            source::tests::write(remote.path(), "lava_dispatcher/tests/test_power.py", text);
            git(remote.path(), &["add", "."]).await;
            git(remote.path(), &["commit", "--quiet", "--message", message]).await;
        };
        git(remote.path(), &["init", "--quiet"]).await;
        commit("one\n", "Add power").await;
        git(remote.path(), &["tag", "2026.07"]).await;
        commit("two\n", "power: fix the count").await;
        commit("three\n", "power: prefix it").await;
        let cache = tempfile::tempdir().unwrap();
        let clone = Clone::of(cache.path(), remote.path().to_string_lossy().into_owned()).unwrap();
        clone.fetch(&|_| {}).await.unwrap();
        let fixes = clone.commits("2026.07", "", false).await.unwrap();
        let [fix] = fixes.as_slice() else { panic!("{fixes:?}") };
        assert_eq!(fix.subject, "power: fix the count");
        let [file] = fix.changed.as_slice() else { panic!("{fix:?}") };
        assert_eq!(
            (&*file.path, &*file.before, &*file.after),
            ("lava_dispatcher/power.py", "one\n", "two\n"),
            "and no test"
        );
        assert_eq!(clone.commits("2026.07", "master", true).await.unwrap().len(), 2);
        // The first one added its files.
        let all = clone.commits("2020-01-01", "", true).await.unwrap();
        assert_eq!((all.len(), all[2].changed.len()), (3, 0));
        assert_eq!(clone.commits("2020-01-01", "2020-01-02", true).await.unwrap().len(), 0);
        assert_eq!(clone.commits("nowhere", "", true).await.unwrap_err().exit(), Exit::Usage);
    }

    #[tokio::test]
    async fn a_range_has_a_beginning() {
        let cache = tempfile::tempdir().unwrap();
        for range in ["2026.07", "", "..2026.07"] {
            let said = commits(cache.path(), range, true, &|_| {}).await.unwrap_err();
            assert_eq!(said.exit(), Exit::Usage, "{range}");
        }
    }

    #[tokio::test]
    async fn a_clone_with_a_part_of_the_history_is_a_remote_too() {
        let whole = source::tests::lava();
        git(whole.path(), &["init", "--quiet"]).await;
        for message in ["one", "two"] {
            git(whole.path(), &["add", "."]).await;
            git(whole.path(), &["commit", "--quiet", "--allow-empty", "--message", message]).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let from = whole.path().to_string_lossy().into_owned();
        git(folder.path(), &["clone", "--quiet", "--no-local", "--depth", "1", &from, "part"]).await;
        let part = folder.path().join("part").to_string_lossy().into_owned();
        let clone = Clone::of(&folder.path().join("cache"), part).unwrap();
        clone.fetch(&|_| {}).await.unwrap();
        let newest = clone.find(None).await.unwrap();
        assert!(clone.lay_out(&newest).await.unwrap().path().join("setup.py").is_file());
    }

    #[tokio::test]
    async fn a_remote_that_is_not_there_is_told_with_its_name() {
        let cache = tempfile::tempdir().unwrap();
        let clone = Clone::of(cache.path(), "/nowhere/lava.git".into()).unwrap();
        let said = clone.fetch(&|_| {}).await.unwrap_err();
        assert_eq!(said.exit(), Exit::Infrastructure);
        assert!(said.to_string().contains("/nowhere/lava.git"), "{said}");
    }
}
