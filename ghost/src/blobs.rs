//! Contents that a ledger names by their sha256, kept beside it.
//!
//! All of a board's are in one file, appended to: a line for each, its sha256 and its bytes in
//! hex. A line without an end was not written to the end.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use meta_lava_formats::sha256;

/// Name of the file, beside the ledger.
const FILE: &str = "blobs";

/// The contents that one board's ledger names.
pub(crate) struct Blobs {
    path: PathBuf,
    /// Opened for the first one: most boards of a large lab never have any.
    file: Option<File>,
    kept: HashSet<String>,
}

impl Blobs {
    /// Those of the board whose ledger is `ledger`.
    pub(crate) fn beside(ledger: &Path) -> Self {
        Self { path: ledger.with_file_name(FILE), file: None, kept: HashSet::new() }
    }

    /// Keeps `contents`, those that it has already left out.
    pub(crate) fn keep<'c>(&mut self, contents: impl IntoIterator<Item = &'c [u8]>) -> io::Result<()> {
        let mut lines = Vec::new();
        for content in contents {
            let sum = sha256(content);
            if !self.kept.contains(&sum) {
                writeln!(lines, "{sum} {}", hex::encode(content))?;
                self.kept.insert(sum);
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::options().create(true).append(true).open(&self.path)?),
        };
        file.write_all(&lines)
    }

    /// Forgets all of them.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.file = None;
        self.kept.clear();
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The contents kept in a board's folder, in hex, by sha256.
pub(crate) fn read(folder: &Path) -> BTreeMap<String, String> {
    parse(&fs::read_to_string(folder.join(FILE)).unwrap_or_default())
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let pairs = whole.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(sum, content)| (sum.to_owned(), content.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_and_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut blobs = Blobs::beside(&folder.path().join("ledger.jsonl"));
        blobs.keep([&b"one"[..], b"", b"one"]).unwrap();
        blobs.keep([&b"one"[..], b"two\n"]).unwrap();
        let found = read(folder.path());
        let expected = [&b"one"[..], b"", b"two\n"].map(|content| (sha256(content), hex::encode(content)));
        assert_eq!(found, BTreeMap::from(expected));
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn nothing_is_left_after_a_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let mut blobs = Blobs::beside(&folder.path().join("ledger.jsonl"));
        blobs.renew().unwrap();
        blobs.keep([&b"one"[..]]).unwrap();
        blobs.renew().unwrap();
        assert_eq!(read(folder.path()), BTreeMap::new());
        blobs.keep([&b"one"[..]]).unwrap();
        assert_eq!(read(folder.path()).len(), 1);
    }

    #[test]
    fn a_line_that_was_not_written_to_its_end_is_left_out() {
        assert_eq!(parse("aa 00\nbb 0"), BTreeMap::from([("aa".to_owned(), "00".to_owned())]));
        assert_eq!(parse("aa 00"), BTreeMap::new());
    }
}
