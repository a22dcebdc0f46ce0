//! What the outside world serves: the artifacts that every file is measured by.

use std::collections::{BTreeMap, HashMap};

use meta_lava_formats::tree::TreeEntry;
use serde::Deserialize;

/// The world's `manifest.json`.
#[derive(Debug, Deserialize)]
struct Manifest {
    files: BTreeMap<String, ManifestFile>,
}

#[derive(Debug, Deserialize)]
struct ManifestFile {
    sha256: String,
    /// What is in it, where it is a root file system, a ramdisk or modules.
    #[serde(default)]
    tree: Option<Vec<TreeEntry>>,
}

/// All artifacts, by what they are made of.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    paths: HashMap<String, String>,
    trees: BTreeMap<String, Vec<TreeEntry>>,
}

impl Artifacts {
    /// Reads the world's manifest: `{"files": {path: {"sha256": hex, "tree": [entries]}}}`.
    ///
    /// # Errors
    /// When it is no such thing.
    pub fn from_manifest(json: &[u8]) -> Result<Self, serde_json::Error> {
        let manifest: Manifest = serde_json::from_slice(json)?;
        let mut artifacts = Self::default();
        for (path, file) in manifest.files {
            artifacts.add(&path, &file.sha256, file.tree);
        }
        Ok(artifacts)
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
