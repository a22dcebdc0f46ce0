//! What the outside world serves: the artifacts that every file is measured by.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use meta_lava_formats::tree::TreeEntry;
use meta_lava_world::manifest::Manifest;
use regex::{Captures, Regex};

/// A sum that LAVA tells of what it downloaded (`HttpDownloadAction` and its kin in
/// lava_dispatcher/actions/deploy/download.py): in a result's `extra`, its name and the sum in hex.
static SUM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""(md5sum|sha256sum|sha512sum)": "[0-9a-f]+""#).expect("the pattern is constant")
});

/// All artifacts, by what they are made of.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    paths: HashMap<String, String>,
    /// Paths of whole files by their sums, as [`SUM`] finds them.
    sums: HashMap<String, String>,
    trees: BTreeMap<String, Vec<TreeEntry>>,
}

impl Artifacts {
    /// What a store's manifest lists. A board that takes a boot loader's header or a
    /// compression off has the inner file, which is the artifact too.
    #[must_use]
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let mut artifacts = Self::default();
        for (path, entry) in &manifest.artifacts {
            artifacts.add(path, &entry.sha256, manifest.tree(path).map(<[_]>::to_vec));
            artifacts.add_sum(path, "sha256sum", &entry.sha256);
            artifacts.add_sum(path, "md5sum", &entry.md5);
            artifacts.add_sum(path, "sha512sum", &entry.sha512);
        }
        // After all whole files: one that is also served unpacked goes by its own name.
        for (path, entry) in &manifest.artifacts {
            if let Some(inner) = &entry.unpacked {
                artifacts.paths.entry(inner.sha256.clone()).or_insert_with(|| format!("{path} (unpacked)"));
            }
        }
        artifacts
    }

    /// Adds the artifact at `path`. Of two that are equal, the first by name is meant.
    pub fn add(&mut self, path: &str, sha256: &str, tree: Option<Vec<TreeEntry>>) {
        first_by_name(self.paths.entry(sha256.to_owned()), path);
        if let Some(tree) = tree {
            self.trees.insert(path.to_owned(), tree);
        }
    }

    fn add_sum(&mut self, path: &str, name: &str, sum: &str) {
        first_by_name(self.sums.entry(format!("\"{name}\": \"{sum}\"")), path);
    }

    /// `text` with each sum of a whole artifact replaced by the artifact's path. Any other sum stays,
    /// as does one under the name of another kind.
    #[must_use]
    pub fn name_sums<'t>(&self, text: &'t str) -> Cow<'t, str> {
        SUM.replace_all(text, |found: &Captures<'_>| {
            let path = self.sums.get(&found[0]);
            path.map_or_else(|| found[0].to_owned(), |path| format!("\"{}\": \"[SUM {path}]\"", &found[1]))
        })
    }

    /// Path of the artifact that has this sha256.
    #[must_use]
    pub fn path(&self, sha256: &str) -> Option<&str> {
        self.paths.get(sha256).map(String::as_str)
    }

    /// Trees by path.
    pub fn trees(&self) -> impl Iterator<Item = (&str, &[TreeEntry])> {
        self.trees.iter().map(|(path, tree)| (path.as_str(), tree.as_slice()))
    }
}

/// Of artifacts that are equal, the first by name is meant.
fn first_by_name(known: Entry<'_, String, String>, path: &str) {
    let known = known.or_insert_with(|| path.to_owned());
    if path < known.as_str() {
        path.clone_into(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_named_by_its_artifact_where_it_is_that_of_a_whole_artifact() {
        let mut artifacts = Artifacts::default();
        artifacts.add_sum("kernel/b", "md5sum", "0b");
        artifacts.add_sum("kernel/a", "md5sum", "0b");
        artifacts.add_sum("kernel/a", "sha512sum", "0c");
        let named = |text| artifacts.name_sums(text).into_owned();
        assert_eq!(
            named(r#"{"md5sum": "0b", "sha512sum": "0c"}"#),
            r#"{"md5sum": "[SUM kernel/a]", "sha512sum": "[SUM kernel/a]"}"#
        );
        let other = r#"{"md5sum": "0c", "sha256sum": "0b", "sha512sum": "0d", "size": "0c"}"#;
        assert_eq!(named(other), other, "of another kind, of no artifact, and no sum");
    }
}
