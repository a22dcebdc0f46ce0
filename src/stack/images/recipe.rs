//! What an image is made of, and the name that follows from it.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::REPOSITORY;
use super::base::Debian;
use crate::error::{Error, Result};
use crate::stack::docker::archive::{Archive, Owner};
use crate::stack::docker::build::Build;

/// One image to be: its inputs and the name that follows from them.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// What it is called; its tag makes the name whole.
    pub name: &'static str,
    /// Path of its Dockerfile among its files.
    dockerfile: String,
    /// The build context, by path.
    files: BTreeMap<String, File>,
    /// What it stands on.
    pub base: Base,
    /// How the names of those begin that are the same for other inputs.
    pub kin: String,
    /// Full name, which its inputs decide.
    pub tag: String,
}

/// What an image stands on.
#[derive(Debug, Clone)]
pub(super) enum Base {
    /// Debian, whatever it is called here.
    Debian(Debian),
    /// One of ours, by its name, which tells its content.
    Ours(String),
    /// One that was given.
    Given {
        /// What it is called.
        name: String,
        /// What it is.
        id: String,
    },
}

/// A file of a build context.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Whether it can be run.
    pub executable: bool,
    /// What is in it.
    pub content: Content,
    /// sha256 of the content.
    pub hash: String,
}

impl File {
    /// A script.
    pub fn program(text: String) -> Self {
        let bytes = text.into_bytes();
        let hash = meta_lava_formats::sha256(&bytes);
        Self { executable: true, content: Content::Bytes(bytes), hash }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// These.
    Bytes(Vec<u8>),
    /// Read when it is needed: our executable may be large.
    At(PathBuf),
}

impl Recipe {
    /// `of` stands before its hash, for people and for [`Recipe::kin`].
    ///
    /// # Errors
    /// [`Error::Usage`] when its Dockerfile is not among its files.
    pub fn new(
        name: &'static str,
        of: &str,
        dockerfile: &str,
        files: BTreeMap<String, File>,
        base: Base,
    ) -> Result<Self> {
        if !files.contains_key(dockerfile) {
            return Err(Error::Usage(format!("compose/{dockerfile} is missing")));
        }
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        add(dockerfile);
        match &base {
            Base::Debian(debian) => add(&debian.key()),
            Base::Ours(name) => add(name),
            Base::Given { id, .. } => add(id),
        }
        for (path, file) in &files {
            add(path);
            add(if file.executable { "x" } else { "-" });
            add(&file.hash);
        }
        let hash = hex::encode(hash.finalize());
        let kin = if of.is_empty() {
            format!("{REPOSITORY}/{name}:")
        } else {
            format!("{REPOSITORY}/{name}:{of}-")
        };
        let tag = format!("{kin}{}", &hash[..16]);
        Ok(Self { name, dockerfile: dockerfile.to_owned(), files, base, kin, tag })
    }

    /// What the engine is asked to build, on the image called `base`.
    pub async fn build(self, base: &str) -> Result<Build> {
        let mut arguments = HashMap::from([("BASE".to_owned(), base.to_owned())]);
        // Docker knows these and keeps them out of the image and of its cache's keys.
        for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            if let Ok(value) = std::env::var(name)
                && !value.is_empty()
            {
                arguments.insert(name.to_owned(), value);
            }
        }
        let (tag, dockerfile) = (self.tag.clone(), self.dockerfile.clone());
        let context = tokio::task::spawn_blocking(move || self.context())
            .await
            .map_err(|error| Error::failed("make a build context", error))??;
        Ok(Build { tag, dockerfile, context, arguments })
    }

    /// The build context, a tar.
    pub fn context(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::new();
        for (path, file) in &self.files {
            let owner = Owner::default();
            if let Some((folder, _)) = path.rsplit_once('/') {
                archive.folder(folder, 0o755, owner)?;
            }
            let mode = if file.executable { 0o755 } else { 0o644 };
            match &file.content {
                Content::Bytes(bytes) => archive.file(path, mode, owner, bytes)?,
                Content::At(at) => {
                    let bytes = std::fs::read(at).map_err(|error| unreadable(at, &error))?;
                    archive.file(path, mode, owner, &bytes)?;
                }
            }
        }
        archive.finish()
    }
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Usage(format!("could not read {}: {error}", path.display()))
}

/// The files below a folder of `parent`, by their path in `parent`; without what
/// editors and Python leave behind.
///
/// # Errors
/// [`Error::Usage`] when one can't be read.
pub(super) fn read_folder(parent: &Path, folder: &str) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let path = parent.join(&folder);
        for entry in std::fs::read_dir(&path).map_err(|error| unreadable(&path, &error))? {
            let entry = entry.map_err(|error| unreadable(&path, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || name.ends_with('~') || name == "__pycache__" {
                continue;
            }
            let within = format!("{folder}/{name}");
            if entry.path().is_dir() {
                pending.push(within);
            } else {
                files.insert(within, read_file(&entry.path())?);
            }
        }
    }
    Ok(files)
}

/// Bytes that a file of a build context may have: all of them are held in memory.
const LARGEST: u64 = 64 << 20;

/// A file of a build context.
///
/// # Errors
/// [`Error::Usage`] when it can't be read, is no file, or has more than 64 MiB.
pub(super) fn read_file(path: &Path) -> Result<File> {
    let failed = |error| unreadable(path, &error);
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let refused = |why| Err(Error::Usage(format!("{} can't go into an image: {why}", path.display())));
    if !metadata.is_file() {
        // To read a pipe would take until somebody writes to it.
        return refused("it is neither a file nor a folder".to_owned());
    }
    if metadata.len() > LARGEST {
        return refused(format!("it has {} bytes, and {LARGEST} are the most", metadata.len()));
    }
    let executable = metadata.permissions().mode() & 0o100 != 0;
    let bytes = std::fs::read(path).map_err(failed)?;
    Ok(File { executable, hash: meta_lava_formats::sha256(&bytes), content: Content::Bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_large_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let said = read_folder(
            folder.path().parent().unwrap(),
            folder.path().file_name().unwrap().to_str().unwrap(),
        );
        assert!(said.unwrap_err().to_string().contains("pipe can't go into an image"));
        let large = folder.path().join("large");
        std::fs::File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read_file(&large).unwrap_err().to_string().contains("67108865 bytes"));
    }
}
