//! Files into and out of containers, as tar in memory.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use futures_util::StreamExt;

use super::Engine;
use super::engine::{fault, is_missing};
use crate::error::{Error, Result};

/// A tar being made. Its bytes depend on nothing but what was put in.
#[derive(Default)]
pub struct Archive {
    builder: Option<tar::Builder<Vec<u8>>>,
    folders: BTreeSet<String>,
    /// Seconds since the Unix epoch.
    mtime: u64,
}

/// Who owns an entry of an [`Archive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User id in the container.
    pub uid: u64,
    /// Group id in the container.
    pub gid: u64,
}

/// A file that came out of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its path below what was asked for; empty for the thing itself.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl Archive {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { builder: Some(tar::Builder::new(Vec::new())), folders: BTreeSet::new(), mtime: 0 }
    }

    /// An empty one whose files are of now: for files that take the place of others, where
    /// LAVA goes by their time. Else all are of the year 1970, so that images do not vary.
    #[must_use]
    pub fn of_now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { mtime: now.map_or(0, |now| now.as_secs()), ..Self::new() }
    }

    /// Adds a file, and the folders above it that `folder_of` asks for.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the path is none that a tar can hold.
    pub fn file(&mut self, path: &str, mode: u32, owner: Owner, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(owner.uid);
        header.set_gid(owner.gid);
        header.set_mtime(self.mtime);
        header.set_size(content.len() as u64);
        self.append(&mut header, path, content)
    }

    /// Adds a folder, once; the ones above it too.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn folder(&mut self, path: &str, mode: u32, owner: Owner) -> Result<()> {
        let path = path.trim_matches('/');
        let mut end = 0;
        while end < path.len() {
            end = path[end + 1..].find('/').map_or(path.len(), |next| end + 1 + next);
            if self.folders.insert(path[..end].to_owned()) {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(mode);
                header.set_uid(owner.uid);
                header.set_gid(owner.gid);
                header.set_mtime(0);
                header.set_size(0);
                self.append(&mut header, &path[..end], &[])?;
            }
        }
        Ok(())
    }

    fn append(&mut self, header: &mut tar::Header, path: &str, content: &[u8]) -> Result<()> {
        let builder = self.builder.get_or_insert_with(|| tar::Builder::new(Vec::new()));
        builder
            .append_data(header, path, content)
            .map_err(|error| Error::failed(format!("put {path:?} into a tar"), error))
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`Error::Infrastructure`]; not in practice, the tar is in memory.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.builder
            .unwrap_or_else(|| tar::Builder::new(Vec::new()))
            .into_inner()
            .map_err(|error| Error::failed("finish a tar", error))
    }
}

/// The regular files of a tar that a container gave us. `limit` bounds the
/// bytes taken; what is beyond is dropped, and the second value says so.
///
/// # Errors
/// [`Error::Infrastructure`] when it is not a tar.
pub fn unpack(bytes: &[u8], limit: u64) -> Result<(Vec<Fetched>, bool)> {
    let mut files = Vec::new();
    let mut left = limit;
    let mut cut = false;
    let bad =
        |error: std::io::Error| Error::infrastructure(format!("a container sent a broken tar: {error}"));
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(bad)?.into_owned();
        let Some(path) = below_first(&path) else { continue };
        if entry.size() > left {
            cut = true;
            continue;
        }
        left -= entry.size();
        let mut content = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
        entry.read_to_end(&mut content).map_err(bad)?;
        files.push(Fetched { path, content });
    }
    Ok((files, cut))
}

/// The path without its first part (the engine names what was asked for), or
/// `None` where it tries to leave the folder.
fn below_first(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name.to_str()?),
            std::path::Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.get(1..)?.join("/"))
}

impl Engine {
    /// Unpacks a tar at `path` (an existing folder) of a container.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn upload(&self, container: &str, path: &str, tar: Vec<u8>) -> Result<()> {
        let options = UploadToContainerOptionsBuilder::default().path(path).build();
        self.docker
            .upload_to_container(container, Some(options), bollard::body_full(tar.into()))
            .await
            .map_err(|error| fault(&format!("upload files to {path} of container {container}"), &error))
    }

    /// The regular files at and below `path` of a container; `None` when there is no such path.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses, or there is more than `limit` bytes.
    pub async fn download(&self, container: &str, path: &str, limit: u64) -> Result<Option<Vec<Fetched>>> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut stream = self.docker.download_from_container(container, Some(options));
        let mut bytes = Vec::new();
        // A tar is larger than its files by its headers.
        let most = limit.saturating_mul(2).saturating_add(1 << 20);
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) if is_missing(&error) && bytes.is_empty() => return Ok(None),
                Err(error) => return Err(fault(&format!("fetch {path} of container {container}"), &error)),
            }
            if bytes.len() as u64 > most {
                return Err(Error::infrastructure(format!(
                    "{path} of container {container} is larger than {limit} bytes"
                )));
            }
        }
        let (files, cut) = unpack(&bytes, limit)?;
        if cut {
            return Err(Error::infrastructure(format!(
                "{path} of container {container} is larger than {limit} bytes"
            )));
        }
        Ok(Some(files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new();
        let owner = Owner { uid: 7, gid: 8 };
        archive.folder("top/sub", 0o755, owner).unwrap();
        archive.folder("top/sub", 0o755, owner).unwrap();
        archive.file("top/sub/a", 0o600, owner, b"aaa").unwrap();
        archive.file("top/b", 0o644, owner, b"bb").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_and_equal_input_gives_equal_bytes() {
        assert_eq!(sample(), sample());
        let (files, cut) = unpack(&sample(), 100).unwrap();
        assert!(!cut);
        let names: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.content.as_slice())).collect();
        assert_eq!(names, [("sub/a", b"aaa".as_slice()), ("b", b"bb")]);
        let bytes = sample();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let kinds: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap())
            })
            .collect();
        assert_eq!(
            kinds.iter().map(|kind| kind.0.as_str()).collect::<Vec<_>>(),
            ["top", "top/sub", "top/sub/a", "top/b"]
        );
        assert!(kinds.iter().all(|kind| kind.1 == 7));
    }

    #[test]
    fn the_limit_holds_and_paths_stay_below() {
        let (files, cut) = unpack(&sample(), 3).unwrap();
        assert!(cut);
        assert_eq!(files.len(), 1);
        assert_eq!(below_first(Path::new("x/../../etc/passwd")), None);
        assert_eq!(below_first(Path::new("/x/y")), None);
        assert_eq!(below_first(Path::new("x")), Some(String::new()));
        assert_eq!(below_first(Path::new("./x/y")).as_deref(), Some("y"));
    }

    #[test]
    fn an_unfinished_tar_is_an_error_and_an_empty_one_is_empty() {
        assert!(unpack(&sample()[..700], 100).is_err());
        assert_eq!(unpack(&Archive::new().finish().unwrap(), 1).unwrap().0, []);
    }
}
