//! Which LAVA a suite of Debian's has: asked of the archive, and remembered.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::base::{Debian, mirror};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::programs::has_program;
use crate::stack::docker::Engine;
use crate::stack::docker::exec::Output;
use crate::stack::docker::objects::tail;

/// The suite that `debian` alone means.
pub const STABLE: &str = "bookworm";
/// An answer is good for so long. An older one counts where the archive can't be asked.
const FRESH: Duration = Duration::from_secs(20 * 3600);
/// An archive that has not told by then does not answer.
const DEADLINE: Duration = Duration::from_secs(180);
/// How it is asked.
const ASK: &str = include_str!("archive.sh");
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
    mirror: String,
    /// Whether it is asked whatever is known.
    refresh: bool,
    progress: &'a (dyn Fn(String) + Send + Sync),
}

impl<'a> Archive<'a> {
    /// Remembers in `cache`, see [`crate::root::cache`]. Who waits is told by `progress`.
    pub fn new(cache: &Path, refresh: bool, progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self { folder: cache.join("archive"), mirror: mirror(), refresh, progress }
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
                "--lava debian:{suite}: there is no suite {suite} at {}; {STABLE}, forky and sid are suites",
                self.mirror
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

    async fn found(&self, suites: &[&str]) -> Result<Vec<Found>> {
        let known: Vec<Option<Answer>> = suites.iter().map(|suite| self.recall(suite)).collect();
        let old: Vec<&str> = suites
            .iter()
            .zip(&known)
            .filter(|(_, known)| self.refresh || known.as_ref().is_none_or(|known| age(known.asked) > FRESH))
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
            // Better the LAVA of yesterday than none.
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
                    Error::Infrastructure(format!("{} told nothing of its suite {suite}", self.mirror))
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
            .map_err(|error| Error::Infrastructure(error.to_string()))
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
        let failed = |what: &str| {
            Error::Infrastructure(format!(
                "could not ask Debian's archive at {} which LAVA it has: {what}",
                self.mirror
            ))
        };
        let script: Vec<&str> =
            ["sh", "-c", ASK, "archive.sh", &self.mirror].into_iter().chain(suites.iter().copied()).collect();
        let here = has_program("apt-get") && KEYRINGS.iter().any(|keyring| Path::new(keyring).is_file());
        let answer = async {
            if here { ask_here(&script).await } else { ask_in_container(&script, self.progress).await }
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
        .map_err(|error| Error::Infrastructure(format!("could not start sh: {error}")))?;
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

fn age(asked: u64) -> Duration {
    Duration::from_secs(now().saturating_sub(asked))
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
