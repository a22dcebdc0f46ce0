//! Which LAVA to test, and the options that say so.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::debian::{Archive, Package, STABLE};
use super::source;
use crate::error::Result;

/// Which LAVA to test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lava {
    /// Where server and worker come from.
    pub origin: Origin,
    /// A source checkout that is laid over both.
    pub source: Option<PathBuf>,
}

/// Where a LAVA comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Debian's packages.
    Debian(Package),
    /// Images that already have one.
    Images {
        /// The server, taken as it is.
        server: String,
        /// The worker; our layer is added on top of it.
        worker: String,
    },
}

/// A LAVA as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// `debian`, `debian:SUITE`.
    Debian(String),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, of) = text.split_once(':').map_or((text, None), |(kind, of)| (kind, Some(of)));
        match (kind, of) {
            ("debian", None) => Ok(Self::Debian(STABLE.into())),
            ("debian", Some(suite)) => {
                let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                if suite.starts_with(|c: char| c.is_ascii_lowercase()) && suite.chars().all(letter) {
                    Ok(Self::Debian(suite.into()))
                } else {
                    Err("a suite is named by small letters, as in debian:sid".into())
                }
            }
            _ => Err("`debian` and `debian:SUITE` are known".into()),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(suite) => write!(f, "debian:{suite}"),
        }
    }
}

/// Options that say which LAVA to test.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LavaArgs {
    /// LAVA of Debian's packages: `debian` (bookworm's), or `debian:SUITE`
    #[arg(long, value_name = "WHICH", conflicts_with_all = ["server_image", "worker_image"])]
    lava: Option<Which>,
    /// Ask the archive for a newer LAVA, whatever is known
    #[arg(long)]
    refresh: bool,
    /// Image of a LAVA server
    #[arg(long, value_name = "IMAGE", requires = "worker_image")]
    server_image: Option<String>,
    /// Image of a LAVA worker
    #[arg(long, value_name = "IMAGE", requires = "server_image")]
    worker_image: Option<String>,
    /// Source checkout of LAVA, laid over server and worker
    #[arg(long, value_name = "DIR")]
    lava_source: Option<PathBuf>,
}

impl LavaArgs {
    /// Which LAVA they say. `root`: see [`crate::root::root`].
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] when the source is no checkout of LAVA, or a suite has
    /// none; [`crate::error::Error::Infrastructure`] when that can't be found out.
    pub async fn lava(&self, root: &Path) -> Result<Lava> {
        if let Some(folder) = &self.lava_source {
            source::check(folder)?;
        }
        let origin = match (&self.server_image, &self.worker_image) {
            (Some(server), Some(worker)) => Origin::Images { server: server.clone(), worker: worker.clone() },
            _ => {
                let Which::Debian(suite) = self.lava.clone().unwrap_or(Which::Debian(STABLE.into()));
                let progress = |line: String| eprintln!("{line}");
                let archive = Archive::new(&crate::root::cache(root), self.refresh, &progress);
                Origin::Debian(archive.lava(&suite).await?)
            }
        };
        Ok(Lava { origin, source: self.lava_source.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lava_is_named_by_kind_and_suite() {
        let which = |text: &str| text.parse::<Which>();
        assert_eq!(which("debian"), Ok(Which::Debian("bookworm".into())));
        assert_eq!(which("debian:sid").unwrap().to_string(), "debian:sid");
        for wrong in ["debian:", "debian:Sid", "debian:../x", "fedora", "debian:-x", ""] {
            assert!(which(wrong).is_err(), "{wrong}");
        }
    }
}
