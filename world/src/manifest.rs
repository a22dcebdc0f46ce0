//! What a store holds: `manifest.json` in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use meta_lava_formats::sha256;
use meta_lava_formats::tree::TreeEntry;
use serde::{Deserialize, Serialize};

/// Name of the manifest's file in the store.
pub const FILE_NAME: &str = "manifest.json";

/// The version of the manifest that this code writes and reads.
pub const VERSION: u32 = 2;

/// What a store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The artifacts by their path below the store.
    pub artifacts: BTreeMap<String, Entry>,
    /// Listings of trees, by the name that [`Entry::tree`] has: many archives hold the same.
    pub trees: BTreeMap<String, Vec<TreeEntry>>,
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Bytes of the file.
    pub size: u64,
    /// sha256 of the file, in hex.
    pub sha256: String,
    /// md5 of the file, in hex.
    pub md5: String,
    /// sha512 of the file, in hex.
    pub sha512: String,
    /// What is inside of a compression or a header of U-Boot, when there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<Content>,
    /// What an archive, or the ramdisk of a FIT image, unpacks to, see [`Manifest::trees`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}

/// Size and hash of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// How many bytes.
    pub size: u64,
    /// Their sha256, in hex.
    pub sha256: String,
}

impl Content {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { size: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

impl Manifest {
    /// Reads the manifest of a store.
    ///
    /// # Errors
    ///
    /// When it is missing, or of another version.
    pub fn read(store: &Path) -> anyhow::Result<Self> {
        let path = store.join(FILE_NAME);
        let text = std::fs::read(&path).with_context(|| format!("no manifest {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("broken manifest {}", path.display()))
    }

    /// Reads a manifest from the bytes of its file.
    ///
    /// # Errors
    ///
    /// When they are none, or of another version.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let manifest: Self = serde_json::from_slice(text)?;
        anyhow::ensure!(manifest.version == VERSION, "manifest of version {}", manifest.version);
        Ok(manifest)
    }

    /// The artifact of this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.artifacts.get(path)
    }

    /// What the archive of this path unpacks to, sorted by path.
    #[must_use]
    pub fn tree(&self, path: &str) -> Option<&[TreeEntry]> {
        self.trees.get(self.get(path)?.tree.as_ref()?).map(Vec::as_slice)
    }
}
