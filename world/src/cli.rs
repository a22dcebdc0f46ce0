//! The commands `ghost world` and `ghost artifacts`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use tokio::net::TcpListener;

use crate::artifacts::{self, List};
use crate::serve::serve;
use crate::userland::{Busybox, Userland};

/// The commands of the world's container; to be flattened into those of `ghost`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve what LAVA downloads, as an HTTP server and as a KissCache
    World(World),
    /// Make what LAVA downloads
    #[command(subcommand)]
    Artifacts(Artifacts),
}

/// `ghost world`.
#[derive(Debug, Args)]
pub struct World {
    /// The folder to serve, made by `ghost artifacts build`
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:80")]
    pub listen: SocketAddr,
}

/// `ghost artifacts`.
#[derive(Debug, Subcommand)]
pub enum Artifacts {
    /// Make all artifacts and their manifest
    Build(Build),
}

/// `ghost artifacts build`.
#[derive(Debug, Args)]
pub struct Build {
    /// A static busybox for this machine's architecture
    #[arg(long, value_name = "FILE", default_value = "/bin/busybox")]
    pub busybox: PathBuf,
    /// The folder to make them in
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The folder that says what to make: `artifacts.yaml`, and the texts in `userland`
    #[arg(long, value_name = "DIR")]
    pub world: PathBuf,
}

/// Does what `command` says.
///
/// # Errors
///
/// When the artifacts can't be made, or the address can't be listened on.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::World(World { root, listen }) => {
            anyhow::ensure!(root.is_dir(), "{} is no folder", root.display());
            let listener = TcpListener::bind(listen).await;
            serve(&root, listener.with_context(|| format!("can't listen on {listen}"))?).await
        }
        Command::Artifacts(Artifacts::Build(args)) => tokio::task::spawn_blocking(|| build(args)).await?,
    }
}

fn build(Build { busybox, out, world }: Build) -> anyhow::Result<()> {
    let path = world.join("artifacts.yaml");
    let yaml = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let list = List::parse(&yaml).with_context(|| format!("broken list {}", path.display()))?;
    let userland = Userland::read(&world.join("userland"))?;
    let manifest = artifacts::build(&list, &Busybox::load(&busybox)?, &userland, &out)?;
    for (path, entry) in &manifest.artifacts {
        println!("{:>9} {path}", entry.size);
    }
    Ok(())
}
