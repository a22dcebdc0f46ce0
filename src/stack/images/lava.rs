//! Which LAVA to test, and the options that say so.

use std::path::PathBuf;

use super::source;
use crate::error::Result;

/// Which LAVA to test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lava {
    /// Where server and worker come from.
    pub origin: Origin,
    /// A source checkout that is laid over both.
    pub source: Option<PathBuf>,
}

/// Where a LAVA comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// Debian's packages.
    #[default]
    Debian,
    /// Images that already have one.
    Images {
        /// The server, taken as it is.
        server: String,
        /// The worker; our layer is added on top of it.
        worker: String,
    },
}

/// Options that say which LAVA to test.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LavaArgs {
    /// LAVA as packaged by
    #[arg(long, value_name = "DISTRIBUTION", value_parser = ["debian"], conflicts_with_all = ["server_image", "worker_image"])]
    lava: Option<String>,
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
    /// Which LAVA they say.
    ///
    /// # Errors
    /// [`crate::error::Error::Usage`] when the source is no checkout of LAVA.
    pub fn lava(&self) -> Result<Lava> {
        if let Some(folder) = &self.lava_source {
            source::check(folder)?;
        }
        let origin = match (&self.server_image, &self.worker_image) {
            (Some(server), Some(worker)) => Origin::Images { server: server.clone(), worker: worker.clone() },
            _ => Origin::Debian,
        };
        Ok(Lava { origin, source: self.lava_source.clone() })
    }
}
