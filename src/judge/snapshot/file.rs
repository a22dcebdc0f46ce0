//! A snapshot's file: insta's format, with a full text or with a difference from a base.
//!
//! ```text
//! ---
//! source: jobs/health-checks/x15/scenario.yaml
//! expression: log
//! info:
//!   base: health-checks/imx6q-sabrelite/log
//!   sha256: "…"
//! ---
//! ```
//!
//! Without `info`, what follows is the text. With it, what follows makes the text of the
//! base's (see [`Delta`]), and the text has that checksum: a base that changed can never
//! make another expectation without being noticed.
//!
//! Reading is insta's own [`insta::Snapshot::from_file`]. Writing is not: insta makes a
//! `Snapshot` only inside of its assertion macros, which panic, print and ask cargo for the
//! workspace. The few lines of [`File::written`] make the same bytes.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::Id;
use super::delta::Delta;
use crate::scenario::Problem;
use crate::text::printable;

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// Lines of the header of a full text, its two `---` included.
pub const HEADER: usize = 4;

/// What a snapshot's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// The text, without the newline at its end.
    Text(String),
    /// What makes it of a base.
    Delta(Based),
}

/// What makes a text of a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Based {
    /// The base.
    pub base: Id,
    /// sha256 of the text, in hex.
    pub sha256: String,
    /// The difference.
    pub delta: Delta,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    base: String,
    sha256: String,
}

impl File {
    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Option<Self>, Problem> {
        let unreadable = |error: io::Error| Problem::new(path, format!("could not be read: {error}"));
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > LARGEST => {
                return Err(Problem::new(path, format!("is larger than {LARGEST} bytes")));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        // What insta would take for its former format, with a warning on stderr.
        if !bytes.starts_with(b"---\n") {
            let message = "a snapshot begins with a line `---`, its metadata and another line `---`";
            return Err(Problem::at(path, Some((1, 1)), message));
        }
        // insta would take all of it for metadata, and nothing would be expected.
        let header = header_of(&bytes);
        if header == 0 {
            let message = "the metadata of a snapshot ends with a line `---`, and these have no end";
            return Err(Problem::at(path, Some((1, 1)), message));
        }
        let info = metadata(&bytes).map_err(|why| {
            Problem::at(path, Some((2, 1)), format!("is not a snapshot: its metadata: {why}"))
        })?;
        let snapshot = insta::Snapshot::from_file(path)
            .map_err(|error| Problem::at(path, Some((1, 1)), format!("is not a snapshot: {error}")))?;
        let text = snapshot
            .as_text()
            .ok_or_else(|| Problem::at(path, Some((1, 1)), "is not a text snapshot"))?
            .to_string();
        let text = text.trim_end();
        if text.is_empty() {
            let message =
                "is empty: nothing at all would be expected. Take it away where nothing is known yet";
            return Err(Problem::at(path, Some((header + 1, 1)), message));
        }
        let Some(Info { base, sha256 }) = info else { return Ok(Some(Self::Text(text.to_owned()))) };
        let base = Id::parse(&base).ok_or_else(|| {
            let message = format!("`{}` is not the name of a snapshot, `suite/name/log`", printable(&base));
            Problem::at(path, Some((2, 1)), message)
        })?;
        let delta = Delta::parse(text)
            .map_err(|(line, why)| Problem::at(path, Some((header + line, 1)), format!("the line {why}")))?;
        Ok(Some(Self::Delta(Based { base, sha256, delta })))
    }

    /// The bytes of the file of snapshot `id`.
    #[must_use]
    pub fn written(&self, id: &Id) -> String {
        let mut text = format!(
            "---\nsource: jobs/{}/{}/scenario.yaml\nexpression: {}\n",
            id.suite,
            id.name,
            id.kind.name()
        );
        match self {
            Self::Text(full) => text.push_str(&format!("---\n{}\n", full.trim_end())),
            Self::Delta(Based { base, sha256, delta }) => {
                text.push_str(&format!("info:\n  base: {base}\n  sha256: \"{sha256}\"\n---\n{delta}\n"));
            }
        }
        text
    }

    /// The base that it needs.
    #[must_use]
    pub fn base(&self) -> Option<&Id> {
        match self {
            Self::Text(_) => None,
            Self::Delta(based) => Some(&based.base),
        }
    }
}

/// The metadata's `info`. Others are some that insta may be given: it panics where YAML has `.nan`.
fn metadata(bytes: &[u8]) -> Result<Option<Info>, String> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let text = lines[1..header_of(bytes) - 1].join(&b'\n');
    let mut metadata: serde_yaml::Mapping = match text.trim_ascii() {
        [] => serde_yaml::Mapping::new(),
        text => serde_yaml::from_slice(text).map_err(|error| error.to_string())?,
    };
    let info = match metadata.remove("info") {
        None => None,
        Some(info) => {
            let info = serde_yaml::from_value(info);
            Some(info.map_err(|error| format!("info: {}", printable(&error.to_string())))?)
        }
    };
    let simple = |value: &serde_yaml::Value| value.is_string() || value.is_i64() || value.is_bool();
    match metadata.iter().find(|(key, value)| !key.is_string() || !simple(value)) {
        None => Ok(info),
        Some((key, _)) => {
            let key = serde_yaml::to_string(key).unwrap_or_default();
            Err(format!("`{}` is not a name with a text or a whole number", printable(key.trim_end())))
        }
    }
}

fn header_of(bytes: &[u8]) -> usize {
    let mut lines = bytes.split(|byte| *byte == b'\n').skip(1);
    lines.position(|line| line.trim_ascii_end() == b"---").map_or(0, |at| at + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Kind;
    use super::*;
    use crate::lava::series::Series;

    fn id() -> Id {
        Id { suite: "health-checks".into(), name: "bbb".into(), series: Series::OLDEST, kind: Kind::Log }
    }

    fn read(text: &str) -> Result<Option<File>, Problem> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.snap");
        fs::write(&path, text).unwrap();
        File::read(&path)
    }

    #[test]
    fn metadata_that_no_snapshot_has_are_refused() {
        for metadata in [
            ".NAN: 1",
            "source: .nan",
            "source: .inf",
            "source: [x]",
            "x",
            "a: b: c",
            "1.5: x",
            "info: x",
            "info: {base: a/b/log}",
            "info: {base: a/b/log, sha256: x, more: y}",
            "info: {base: a/b/log, sha256: .nan}",
        ] {
            let problem = read(&format!("---\n{metadata}\n---\ntext\n")).unwrap_err();
            assert!(problem.message.contains("metadata"), "{metadata}: {problem}");
        }
        let read = read("---\nsource: a\nexpression: b\nassertion_line: 12\n---\ntext\n").unwrap();
        assert_eq!(read, Some(File::Text("text".into())));
    }

    #[test]
    fn a_header_without_an_end_and_a_text_without_a_line_are_refused() {
        let message = |text: &str| read(text).unwrap_err().message;
        assert!(message("---\nsource: x\n  console 0 firmware> dhcp\n").contains("have no end"));
        assert!(message("no header\n").contains("begins with"));
        assert!(message("---\nsource: x\n---\n \n\n").contains("is empty"));
        assert!(message("---\nsource: x\n---\n").contains("is empty"));
    }

    #[test]
    fn a_full_text_is_written_as_insta_does_it_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.snap");
        let text = "---\nlines: like a header\n---\n\n  indented\nlast";
        let written = File::Text(format!("{text}\n\n")).written(&id());
        let header = "---\nsource: jobs/health-checks/bbb/scenario.yaml\nexpression: log\n---\n";
        assert_eq!(written, format!("{header}{text}\n"));
        assert_eq!(header.lines().count(), HEADER);
        fs::write(&path, &written).unwrap();
        let snapshot = insta::Snapshot::from_file(&path).unwrap();
        assert_eq!(snapshot.metadata().expression(), Some("log"));
        assert_eq!(File::read(&path).unwrap(), Some(File::Text(text.into())));
        // As `cargo insta accept` does it.
        snapshot.save(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), written);
    }

    #[test]
    fn a_difference_names_its_base_and_is_read_back() {
        let delta = Delta::between("one\ntwo\nthree", "one\nfour\nthree");
        let base = Id { name: "juno".into(), ..id() };
        let file = File::Delta(Based { base, sha256: "1e5".into(), delta });
        let written = file.written(&id());
        assert!(
            written.contains(
                "info:\n  base: health-checks/juno/log\n  sha256: \"1e5\"\n---\n@ 2 -1\n+four\nend\n"
            )
        );
        assert_eq!(read(&written).unwrap(), Some(file));
        let problem = read(&written.replace("+four", "four")).unwrap_err();
        assert_eq!(problem.at, Some((9, 1)));
        assert!(
            read(&written.replace("juno/log", "juno/journal")).unwrap_err().message.contains("suite/name")
        );
    }

    proptest! {
        #[test]
        fn any_text_that_is_written_is_read_back(text in "(.*\n){0,6}.*[a-z]") {
            // A snapshot is of lines that are printable.
            let text: Vec<String> = text.lines().map(printable).collect();
            let full = File::Text(text.join("\n"));
            prop_assert_eq!(read(&full.written(&id())).unwrap(), Some(full));
        }

        #[test]
        fn any_bytes_are_a_snapshot_or_a_problem(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log.snap");
            fs::write(&path, [b"---\n", bytes.as_slice()].concat()).unwrap();
            let _ = File::read(&path);
        }
    }
}
