//! Which LAVA to test, and the options that say so.

/// Which LAVA to test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lava {
    /// Where server and worker come from.
    pub origin: Origin,
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
}

impl LavaArgs {
    /// Which LAVA they say.
    pub fn lava(&self) -> Lava {
        let origin = match (&self.server_image, &self.worker_image) {
            (Some(server), Some(worker)) => Origin::Images { server: server.clone(), worker: worker.clone() },
            _ => Origin::Debian,
        };
        Lava { origin }
    }
}
