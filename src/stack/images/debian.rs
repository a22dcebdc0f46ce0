//! Which LAVA a suite of Debian's has: asked of the archive, and remembered.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::base::{Debian, label, mirror};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::programs::has_program;
use crate::stack::docker::Engine;
use crate::stack::docker::exec::Output;
use crate::stack::docker::objects::tail;

/// The suite that `debian` alone means.
pub const STABLE: &str = "bookworm";
/// An archive that has not told by then does not answer.
const DEADLINE: Duration = Duration::from_secs(180);
/// How it is asked.
const ASK: &str = include_str!("archive.sh");
/// What that ends with where apt has no source of Debian's, as on another distribution.
const NO_SOURCE: i64 = 9;
/// What apt knows Debian's signatures by, on a machine that may not be Debian's.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The LAVA of a suite of Debian's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `bookworm`, `sid`, ...
    pub suite: String,
    /// Version of the package `lava-server`, such as `2026.10-1`.
    pub version: String,
}

/// What the archive said of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    /// It has this version of `lava-server`.
    Version(String),
    /// It has none.
    NoLava,
    /// There is no such suite.
    NoSuite,
}

/// The same, remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    mirror: String,
    found: Found,
    /// Seconds since 1970.
    asked: u64,
}

/// What is known of Debian's archive.
pub struct Archive<'a> {
    /// Where answers are remembered.
    folder: PathBuf,
    /// Empty where it is apt's own.
    mirror: String,
    /// Whether it is asked whatever is known: else an answer is good for ever, so that nothing is
    /// made anew that nobody asked for.
    refresh: bool,
    progress: &'a (dyn Fn(String) + Send + Sync),
}

impl<'a> Archive<'a> {
    /// Remembers in `cache`, see [`crate::root::cache`]. Who waits is told by `progress`.
    pub fn new(cache: &Path, refresh: bool, progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        let mirror = mirror().unwrap_or_default();
        // A folder for each, so that they forget nothing of each other.
        let of = if mirror.is_empty() { "apt".to_owned() } else { label(&mirror) };
        Self { folder: cache.join("archive").join(of), mirror, refresh, progress }
    }

    /// The LAVA of each suite; `None` where the archive has no such suite or no LAVA in it.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the archive does not answer, and has not before.
    pub async fn lavas(&self, suites: &[&str]) -> Result<Vec<Option<Package>>> {
        let found = self.found(suites).await?;
        Ok(suites
            .iter()
            .zip(found)
            .map(|(suite, found)| match found {
                Found::Version(version) => Some(Package { suite: (*suite).to_owned(), version }),
                Found::NoLava | Found::NoSuite => None,
            })
            .collect())
    }

    /// The LAVA of a suite that must have one.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such suite, or no LAVA in it;
    /// [`Error::Infrastructure`] when the archive does not answer, and has not before.
    pub async fn lava(&self, suite: &str) -> Result<Package> {
        match self.found(&[suite]).await?.pop() {
            Some(Found::Version(version)) => Ok(Package { suite: suite.to_owned(), version }),
            Some(Found::NoLava) => Err(Error::Usage(format!(
                "--lava debian:{suite}: Debian's {suite} has no package lava-server; {STABLE} and sid have it"
            ))),
            _ => Err(Error::Usage(format!(
                "--lava debian:{suite}: there is no suite {suite} in {}; {STABLE}, forky and sid are suites",
                self.called()
            ))),
        }
    }

    /// All that is remembered, of any age.
    #[must_use]
    pub fn remembered(&self) -> Vec<Package> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let suites = entries.filter_map(|entry| {
            entry.file_name().to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned)
        });
        let mut packages: Vec<Package> = suites
            .filter_map(|suite| match self.recall(&suite)?.found {
                Found::Version(version) => Some(Package { suite, version }),
                Found::NoLava | Found::NoSuite => None,
            })
            .collect();
        packages.sort_by(|a, b| a.suite.cmp(&b.suite));
        packages
    }

    /// What it is called in messages.
    fn called(&self) -> String {
        match self.mirror.as_str() {
            "" => "Debian's archive".to_owned(),
            mirror => format!("Debian's archive at {mirror}"),
        }
    }

    async fn found(&self, suites: &[&str]) -> Result<Vec<Found>> {
        let known: Vec<Option<Answer>> = suites.iter().map(|suite| self.recall(suite)).collect();
        let old: Vec<&str> = suites
            .iter()
            .zip(&known)
            .filter(|(_, known)| self.refresh || known.is_none())
            .map(|(suite, _)| *suite)
            .collect();
        let told = if old.is_empty() {
            Ok(Vec::new())
        } else {
            (self.progress)(format!("asking Debian's archive for the LAVA of {}", old.join(", ")));
            self.ask(&old).await
        };
        let told = match told {
            Ok(told) => told,
            // Better the LAVA that was there than none.
            Err(error) if known.iter().all(Option::is_some) => {
                (self.progress)(format!("{}; going on with what it had before", error.brief()));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        for (suite, found) in &told {
            self.remember(suite, found);
        }
        suites
            .iter()
            .zip(known)
            .map(|(suite, known)| {
                let told = told.iter().find(|(of, _)| of == suite).map(|(_, found)| found.clone());
                told.or(known.map(|known| known.found)).ok_or_else(|| {
                    Error::infrastructure(format!("{} told nothing of its suite {suite}", self.called()))
                })
            })
            .collect()
    }

    fn file(&self, suite: &str) -> PathBuf {
        self.folder.join(format!("{suite}.json"))
    }

    fn recall(&self, suite: &str) -> Option<Answer> {
        let text = std::fs::read_to_string(self.file(suite)).ok()?;
        let answer: Answer = serde_json::from_str(&text).ok()?;
        (answer.mirror == self.mirror).then_some(answer)
    }

    fn remember(&self, suite: &str, found: &Found) {
        let answer = Answer { mirror: self.mirror.clone(), found: found.clone(), asked: now() };
        let written = serde_json::to_string(&answer)
            .map_err(Error::infrastructure)
            .and_then(|text| write_whole(&self.file(suite), text.as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, "what the archive said is not remembered");
        }
    }

    #[cfg(test)]
    pub fn remember_version(&self, suite: &str, version: &str) {
        self.remember(suite, &Found::Version(version.into()));
    }

    /// Asks it.
    async fn ask(&self, suites: &[&str]) -> Result<Vec<(String, Found)>> {
        let failed = |what: &str| Error::failed(format!("ask {} which LAVA it has", self.called()), what);
        let script: Vec<&str> =
            ["sh", "-c", ASK, "archive.sh", &self.mirror].into_iter().chain(suites.iter().copied()).collect();
        let here = has_program("apt-get") && KEYRINGS.iter().any(|keyring| Path::new(keyring).is_file());
        let answer = async {
            if here {
                let output = ask_here(&script).await?;
                if output.code != NO_SOURCE {
                    return Ok(output);
                }
            }
            ask_in_container(&script, self.progress).await
        };
        let output = tokio::time::timeout(DEADLINE, answer)
            .await
            .map_err(|_| failed(&format!("it did not answer in {} s", DEADLINE.as_secs())))?
            .map_err(|error| failed(&error.to_string()))?;
        if output.code != 0 {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let why = said.lines().find(|line| line.starts_with("  ")).map(str::trim);
            return Err(failed(&format!(
                "{}; the end of what apt said:\n{}",
                why.unwrap_or("apt failed"),
                tail(&said, 10)
            )));
        }
        Ok(read(&String::from_utf8_lossy(&output.stdout)))
    }
}

async fn ask_here(script: &[&str]) -> Result<Output> {
    let output = Command::new(script[0])
        .args(&script[1..])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::failed("start sh", error))?;
    let code = output.status.code().unwrap_or(1).into();
    Ok(Output { code, stdout: output.stdout, stderr: output.stderr })
}

/// On a machine that is not Debian's: with the apt of a base image.
async fn ask_in_container(script: &[&str], progress: &(dyn Fn(String) + Send + Sync)) -> Result<Output> {
    let engine = Engine::connect().await?;
    let architecture = engine.preflight().await?.architecture;
    let base = Debian::world().ensure(&engine, &architecture, progress).await?;
    engine.run_once(&base, script).await
}

/// What the script prints.
fn read(text: &str) -> Vec<(String, Found)> {
    text.lines()
        .filter_map(|line| {
            let (suite, version) = line.split_once(' ')?;
            let found = match version {
                "-" => Found::NoLava,
                "?" => Found::NoSuite,
                version => Found::Version(version.to_owned()),
            };
            Some((suite.to_owned(), found))
        })
        .collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::Exit;

    fn archive(folder: &Path) -> Archive<'static> {
        // Nobody listens there: what is asked is an error.
        let mirror = "http://127.0.0.1:9/debian".to_owned();
        Archive { folder: folder.into(), mirror, refresh: false, progress: &|_| {} }
    }

    #[test]
    fn what_the_script_prints_is_read() {
        let read = read("sid 2026.10-1\ntrixie -\nnowhere ?\n");
        assert_eq!(
            read,
            [
                ("sid".into(), Found::Version("2026.10-1".into())),
                ("trixie".into(), Found::NoLava),
                ("nowhere".into(), Found::NoSuite)
            ]
        );
    }

    #[tokio::test]
    async fn an_answer_is_remembered_and_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        archive.remember("sid", &Found::Version("2026.10-1".into()));
        archive.remember("trixie", &Found::NoLava);
        archive.remember("nowhere", &Found::NoSuite);
        assert_eq!(archive.lava("sid").await.unwrap().version, "2026.10-1");
        for suite in ["trixie", "nowhere"] {
            let said = archive.lava(suite).await.unwrap_err();
            assert_eq!(said.exit(), Exit::Usage);
            assert!(said.to_string().contains(suite), "{said}");
        }
        let lavas = archive.lavas(&["trixie", "sid"]).await.unwrap();
        assert!(lavas[0].is_none() && lavas[1].is_some());
        assert_eq!(archive.remembered().len(), 1);
    }

    #[tokio::test]
    async fn an_answer_of_any_age_is_good_until_somebody_asks_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let told = std::sync::Mutex::new(Vec::new());
        let progress = |line: String| told.lock().unwrap().push(line);
        // It is in vain to ask there.
        let mut archive = Archive { progress: &progress, ..archive(folder.path()) };
        let answer = Answer {
            mirror: archive.mirror.clone(),
            found: Found::Version("2026.09-1".into()),
            asked: now() - 400 * 24 * 3600,
        };
        write_whole(&archive.file("sid"), serde_json::to_string(&answer).unwrap().as_bytes()).unwrap();
        assert_eq!(archive.lava("sid").await.unwrap().version, "2026.09-1");
        assert!(told.lock().unwrap().is_empty());
        archive.refresh = true;
        assert_eq!(archive.lava("sid").await.unwrap().version, "2026.09-1");
        let told = told.lock().unwrap();
        assert!(told[0].starts_with("asking Debian's archive for the LAVA of sid"), "{told:?}");
        assert!(told[1].ends_with("going on with what it had before"), "{told:?}");
    }

    #[tokio::test]
    async fn the_mirror_is_that_of_apts_own_sources() {
        let folder = tempfile::tempdir().unwrap();
        let tool = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let ask = |sources: &str| {
            tool("apt-config", "exit 0");
            let known = format!(
                "echo \"$APT_CONFIG\" | sed 's,apt.conf,sources.list,' | xargs cat > {}/list",
                folder.path().display()
            );
            tool("apt-cache", "exit 0");
            tool("apt-get", &format!("case $1 in indextargets) {sources} ;; update) {known} ;; esac"));
            let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
            let output = std::process::Command::new("sh")
                .args(["-c", ASK, "archive.sh", "", "sid"])
                .env("PATH", path)
                .output()
                .unwrap();
            (output.status.code(), std::fs::read_to_string(folder.path().join("list")).unwrap_or_default())
        };
        // What says of itself that it is Debian's, and else what is called so.
        let said = "case $* in *Origin*) echo http://one/mirror ;; *) echo http://one/debian-security/; echo http://two/debian/ ;; esac";
        assert!(ask(said).1.contains(" http://one/mirror sid main"));
        let named =
            "case $* in *Origin*) ;; *) echo http://one/debian-security/; echo http://two/debian/ ;; esac";
        assert!(ask(named).1.contains(" http://two/debian/ sid main"), "{}", ask(named).1);
        assert_eq!(
            ask("case $* in *Origin*) ;; *) echo http://three/ubuntu ;; esac").0,
            Some(NO_SOURCE.try_into().unwrap())
        );
    }

    #[test]
    fn what_another_mirror_said_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = archive(folder.path());
        archive.remember("sid", &Found::NoLava);
        assert!(archive.recall("sid").is_some());
        archive.mirror = "http://elsewhere/debian".into();
        assert!(archive.recall("sid").is_none());
    }
}
