//! Images: what they are called, and what comes from the world when one is pulled.
//!
//! The world has an image as one file, in the format of `docker save` (`manifest.json`, a configuration, and a layer as a
//! tar archive), so that a real engine takes it, too. Of the configuration only what a container is made of is read: crates for
//! images (`oci-spec`, `oci-client`) bring a registry's protocol, builders and digests, of which nothing is needed.

use std::fmt;

use meta_lava_formats::compress::decompress;
use meta_lava_formats::tar;
use meta_lava_formats::tree::{NodeKind, Tree};
use serde::Deserialize;

/// No image unpacks to more, in bytes.
const LIMIT: usize = 1 << 30;

/// What an image is called, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry.
    pub host: String,
    /// The repository in it.
    pub path: String,
    pub tag: String,
    /// Whether the tag was given.
    pub is_tagged: bool,
}

/// Why a text is no reference, in the words of `distribution/reference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
}

/// The registry of names that name none.
const HUB: &str = "docker.io";

impl Reference {
    /// Takes a reference apart, as `ParseNormalizedNamed` of `distribution/reference` does.
    ///
    /// # Errors
    /// As Docker says it.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        let (host, rest) = match text.split_once('/') {
            Some((host, rest))
                if host.contains(['.', ':']) || host == "localhost" || host != host.to_lowercase() =>
            {
                (host, rest)
            }
            _ => (HUB, text),
        };
        // A digest names no other thing here: the world has one image of each tag.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(BadReference::Uppercase);
        }
        let is_part = |part: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            ends(part.chars().next())
                && ends(part.chars().last())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        let is_tag = |tag: &str| {
            tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && tag.len() <= 128
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        let is_host = host.split('.').all(|label| !label.is_empty())
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'));
        if !is_host || !path.split('/').all(is_part) || !tag.is_none_or(is_tag) {
            return Err(BadReference::Format);
        }
        let path =
            if host == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        Ok(Self {
            host: host.to_owned(),
            path,
            tag: tag.unwrap_or("latest").to_owned(),
            is_tagged: tag.is_some(),
        })
    }

    /// Its name as Docker prints it, without the tag.
    #[must_use]
    pub fn name(&self) -> String {
        match self.host.as_str() {
            HUB => self.path.strip_prefix("library/").unwrap_or(&self.path).to_owned(),
            host => format!("{host}/{}", self.path),
        }
    }

    /// Where the world has it, below its root.
    #[must_use]
    pub fn file(&self) -> String {
        format!("image/{}/{}/{}.tar.gz", self.host, self.path, self.tag)
    }

    /// What a registry says of one that it does not have, as the engine passes it on. Docker's own registry does not tell
    /// what it has from who may not have it.
    #[must_use]
    pub fn unknown(&self) -> String {
        match self.host.as_str() {
            HUB => format!(
                "pull access denied for {}, repository does not exist or may require 'docker login': denied: \
                 requested access to the resource is denied",
                self.name()
            ),
            _ => format!("manifest for {self} not found: manifest unknown: manifest unknown"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name(), self.tag)
    }
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The sha256 of its configuration, in hex.
    pub id: String,
    /// The sha256 of the file, in hex: what stands for its digest.
    pub digest: String,
    /// The sha256 of its layer, in hex.
    pub layer: String,
    pub architecture: String,
    /// What a container of it is made with.
    pub settings: Settings,
    pub tree: Tree,
}

/// What a container is made with, where nothing else is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Settings {
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub user: String,
}

/// Docker writes `null` for an empty list.
fn or_default<'d, D: serde::Deserializer<'d>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Configuration {
    architecture: String,
    #[serde(default)]
    config: Settings,
}

impl Image {
    /// Reads what `docker save` writes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let unpacked = decompress(bytes, LIMIT).map_err(|error| error.to_string())?;
        let archive = tar::read(&unpacked).map_err(|error| error.to_string())?;
        let file = |path: &str| match archive.get(path).map(|node| &node.kind) {
            Some(NodeKind::File(content)) => Ok(content.as_slice()),
            _ => Err(format!("there is no {path} in it")),
        };
        let list: Vec<Listed> = serde_json::from_slice(file("manifest.json")?)
            .map_err(|error| format!("manifest.json: {error}"))?;
        let [listed] = list.as_slice() else { return Err(format!("it has {} images", list.len())) };
        let config = file(&listed.config)?;
        let Configuration { architecture, config: settings } =
            serde_json::from_slice(config).map_err(|error| format!("{}: {error}", listed.config))?;
        let [layer] = listed.layers.as_slice() else {
            return Err(format!("it has {} layers, and one is read", listed.layers.len()));
        };
        let layer = file(layer)?;
        Ok(Self {
            id: meta_lava_formats::sha256(config),
            digest: meta_lava_formats::sha256(bytes),
            layer: meta_lava_formats::sha256(layer),
            architecture,
            settings,
            tree: tar::read(layer).map_err(|error| error.to_string())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_docker_does() {
        for (text, name, file) in [
            ("ubuntu", "ubuntu:latest", "image/docker.io/library/ubuntu/latest.tar.gz"),
            ("lab/tests:1.0", "lab/tests:1.0", "image/docker.io/lab/tests/1.0.tar.gz"),
            (
                "registry.example.org:5000/lab/tests",
                "registry.example.org:5000/lab/tests:latest",
                "image/registry.example.org:5000/lab/tests/latest.tar.gz",
            ),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.file().as_str()), (name, file));
        }
    }

    /// As Docker 20.10.24 said it.
    #[test]
    fn what_is_no_name_is_refused_in_dockers_words() {
        assert_eq!(Reference::parse("UPPER"), Err(BadReference::Uppercase));
        assert_eq!(Reference::parse("lab/Tests:1"), Err(BadReference::Uppercase));
        for text in ["", "a:b:c", "/a", "a/", "a:", "-a", "registry.example.org/", "a b", "../a"] {
            assert_eq!(Reference::parse(text), Err(BadReference::Format), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_image_is_an_error_and_no_panic() {
        for bytes in [&b""[..], b"rubbish", &meta_lava_formats::compress::gzip(b"rubbish").unwrap()] {
            assert!(Image::read(bytes).is_err());
        }
    }
}
