//! The tables of what jobs ran of LAVA's dispatcher, for each LAVA of which it was measured.

use serde::Serialize;

use crate::event::{Measured, Share};
use crate::report::Run;

/// What was run of one LAVA.
#[derive(Serialize)]
pub(super) struct Table<'a> {
    /// Its name.
    lava: &'a str,
    actions: String,
    lines: String,
    branches: String,
    /// Its files, the one with the most lines that nobody ran first.
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    lines: String,
    branches: String,
    /// The lines that nobody ran.
    missing: String,
}

pub(super) fn measured(run: &Run) -> Vec<Table<'_>> {
    let measured = run.lavas.iter().filter(|lava| !lava.measured.is_empty());
    measured
        .map(|lava| {
            let mut files: Vec<&Measured> = lava.measured.iter().collect();
            files.sort_by_key(|file| std::cmp::Reverse(file.missing.len()));
            Table {
                lava: &lava.name,
                actions: words(Measured::share_of_lines(
                    files.iter().copied().filter(|file| file.is_action()),
                )),
                lines: words(Measured::share_of_lines(files.iter().copied())),
                branches: words(Measured::share_of_branches(files.iter().copied())),
                files: files.into_iter().map(file).collect(),
            }
        })
        .collect()
}

fn file(file: &Measured) -> File<'_> {
    File {
        path: &file.path,
        lines: words(Measured::share_of_lines([file])),
        branches: words(Measured::share_of_branches([file])),
        missing: file.missing_ranges(),
    }
}

fn words(share: Share) -> String {
    format!("{} % of {}", share.percent(), share.of)
}
