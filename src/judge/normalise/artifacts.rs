//! What the outside world serves: the artifacts that every file is measured by.

use std::collections::{BTreeMap, HashMap};

use meta_lava_formats::tree::TreeEntry;
use meta_lava_world::manifest::Manifest;

/// All artifacts, by what they are made of.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    paths: HashMap<String, String>,
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
        let known = self.paths.entry(sha256.to_owned()).or_insert_with(|| path.to_owned());
        if path < known.as_str() {
            path.clone_into(known);
        }
        if let Some(tree) = tree {
            self.trees.insert(path.to_owned(), tree);
        }
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
