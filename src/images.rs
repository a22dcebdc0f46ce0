//! The images: found by the hash of what they are made of, or built.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::base_image;
use crate::docker::Engine;
use crate::docker::archive::{Archive, Owner};
use crate::docker::build::Build;
use crate::docker::objects::{Kind, Object};
use crate::error::{Error, Result};
use crate::event::{Event, EventSender, Phase};

/// Begin of the names of all images of ours. They are known by it and not by a
/// label, which would cost the classic builder one more layer for each.
const REPOSITORY: &str = "meta-lava";
/// So many of the images with our own executable in them are kept, besides the
/// ones in use: a developer makes one with every build, and each is made in seconds.
const KEPT: usize = 3;

/// Which LAVA to test.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Lava {
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
    ///
    /// # Errors
    /// None so far.
    pub fn lava(&self) -> Result<Lava> {
        Ok(match (&self.server_image, &self.worker_image) {
            (Some(server), Some(worker)) => Lava::Images { server: server.clone(), worker: worker.clone() },
            _ => Lava::Debian,
        })
    }
}

/// The images that a stack is made of, as the engine knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Server.
    pub server: String,
    /// Worker, with the ghost.
    pub worker: String,
    /// The outside world.
    pub world: String,
}

/// One image to be: its inputs and the name that follows from them.
#[derive(Debug, Clone)]
struct Recipe {
    name: &'static str,
    dockerfile: String,
    files: BTreeMap<String, File>,
    base: Base,
    tag: String,
}

/// What an image stands on.
#[derive(Debug, Clone)]
enum Base {
    /// Debian, whatever it is called here.
    Debian,
    /// Another one, by name.
    Named(String),
}

/// A file of a build context.
#[derive(Debug, Clone)]
struct File {
    executable: bool,
    content: Content,
    /// sha256 of the content.
    hash: String,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    /// Read when it is needed: our executable may be large.
    At(PathBuf),
}

/// All recipes of a stack.
struct Recipes {
    /// `None` where an image was given.
    server: Option<Recipe>,
    given_server: String,
    worker_base: Recipe,
    worker: Recipe,
    world: Recipe,
}

impl Recipes {
    fn all(&self) -> impl Iterator<Item = &Recipe> {
        self.server.iter().chain([&self.worker_base, &self.worker, &self.world])
    }
}

/// Finds or builds the images of a stack. `root`: see [`crate::root::root`].
///
/// # Errors
/// [`Error::Infrastructure`] with the end of the build that failed.
pub async fn ensure(engine: &Engine, root: &Path, lava: &Lava, events: &EventSender) -> Result<Images> {
    let architecture = engine.preflight().await?.architecture;
    let root = root.to_owned();
    let wanted = lava.clone();
    let recipes = tokio::task::spawn_blocking(move || recipes(&root, &wanted, executable(&architecture)?))
        .await
        .map_err(|error| {
            Error::Infrastructure(format!("could not read what the images are made of: {error}"))
        })??;
    if let Lava::Images { server, worker } = lava {
        for (option, image) in [("--server-image", server), ("--worker-image", worker)] {
            if engine.image_id(image).await?.is_none() {
                progress(events, format!("pulling {image}"));
                engine.pull(image, Duration::from_secs(600)).await.map_err(|error| {
                    Error::Infrastructure(format!("{error} (it is named by {option} and not on this engine)"))
                })?;
            }
        }
    }
    if !present(engine, &recipes).await? {
        // Two runs that build the same at once would both succeed, each
        // wasting half of the machine; the second waits instead.
        let lock = Lock::take(events).await?;
        build(engine, &recipes, events).await?;
        drop(lock);
        prune(engine, &[&recipes.worker, &recipes.world]).await;
    }
    Ok(Images {
        server: recipes.server.as_ref().map_or(recipes.given_server, |recipe| recipe.tag.clone()),
        worker: recipes.worker.tag,
        world: recipes.world.tag,
    })
}

/// What is there of the images that the default LAVA needs: name, and whether.
///
/// # Errors
/// As [`ensure`].
pub async fn status(engine: &Engine, root: &Path) -> Result<Vec<(String, bool)>> {
    let architecture = engine.preflight().await?.architecture;
    let root = root.to_owned();
    let recipes =
        tokio::task::spawn_blocking(move || recipes(&root, &Lava::Debian, executable(&architecture)?))
            .await
            .map_err(|error| {
                Error::Infrastructure(format!("could not read what the images are made of: {error}"))
            })??;
    let mut status = Vec::new();
    for recipe in recipes.all() {
        status.push((recipe.tag.clone(), engine.image_id(&recipe.tag).await?.is_some()));
    }
    Ok(status)
}

fn progress(events: &EventSender, line: String) {
    let _ = events.send(Event::Progress(Phase::Images, line));
}

async fn present(engine: &Engine, recipes: &Recipes) -> Result<bool> {
    for recipe in recipes.server.iter().chain([&recipes.worker, &recipes.world]) {
        if engine.image_id(&recipe.tag).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn build(engine: &Engine, recipes: &Recipes, events: &EventSender) -> Result<()> {
    let architecture = engine.preflight().await?.architecture;
    let debian = tokio::sync::OnceCell::new();
    // The base is found once, and only when something that stands on it is missing.
    let make = |recipe: Recipe| {
        let (debian, architecture) = (&debian, &architecture);
        async move {
            if engine.image_id(&recipe.tag).await?.is_some() {
                return Ok(());
            }
            let base = match &recipe.base {
                Base::Named(name) => name.clone(),
                Base::Debian => debian
                    .get_or_try_init(|| async {
                        base_image::ensure(engine, architecture, &|line| progress(events, line)).await
                    })
                    .await?
                    .clone(),
            };
            let name = recipe.name;
            progress(events, format!("{name}: building {}", recipe.tag));
            let begun = std::time::Instant::now();
            let build = recipe.build(&base).await?;
            engine.build(build, &|line| progress(events, format!("{name}: {line}"))).await?;
            progress(events, format!("{name}: built in {:.1} s", begun.elapsed().as_secs_f64()));
            Ok::<_, Error>(())
        }
    };
    let server = async {
        match &recipes.server {
            Some(recipe) => make(recipe.clone()).await,
            None => Ok(()),
        }
    };
    let worker = async {
        // What lies below the worker is only needed when the worker itself is missing.
        if engine.image_id(&recipes.worker.tag).await?.is_none() {
            make(recipes.worker_base.clone()).await?;
            make(recipes.worker.clone()).await?;
        }
        Ok(())
    };
    tokio::try_join!(server, worker, make(recipes.world.clone())).map(|_| ())
}

/// Removes the oldest images with our executable, of the same names; that one
/// is in use is no reason to fail.
async fn prune(engine: &Engine, recipes: &[&Recipe]) {
    for recipe in recipes {
        let Ok(mut images) = engine.images(&format!("{REPOSITORY}/{}", recipe.name)).await else { return };
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        for image in images.into_iter().skip(KEPT).filter(|image| !image.tags.contains(&recipe.tag)) {
            let names = if image.tags.is_empty() { vec![image.id.clone()] } else { image.tags.clone() };
            for name in names {
                let object = Object { kind: Kind::Image, id: name.clone(), name, labels: HashMap::new() };
                if let Err(error) = engine.remove(&object).await {
                    tracing::debug!(%error, "an old image stays");
                }
            }
        }
    }
}

/// Removes all images of ours that no container uses and the default LAVA does
/// not need; says which.
///
/// # Errors
/// [`Error::Infrastructure`] when the engine does not answer.
pub async fn clean(engine: &Engine, keep: &[String]) -> Result<Vec<String>> {
    let used: HashSet<String> = engine.containers_images().await?;
    let mut removed = Vec::new();
    let mut images = engine.images(&format!("{REPOSITORY}/*")).await?;
    // The newest first: what stands on another image goes before it.
    images.sort_by_key(|image| std::cmp::Reverse(image.created));
    for image in images {
        if used.contains(&image.id) || image.tags.iter().any(|tag| used.contains(tag) || keep.contains(tag)) {
            continue;
        }
        let names = if image.tags.is_empty() { vec![image.id.clone()] } else { image.tags.clone() };
        for name in names {
            let object =
                Object { kind: Kind::Image, id: name.clone(), name: name.clone(), labels: HashMap::new() };
            match engine.remove(&object).await {
                Ok(()) => removed.push(format!("image {name}")),
                // It is what another one stands on.
                Err(error) => tracing::debug!(%error, "an image stays"),
            }
        }
    }
    Ok(removed)
}

fn recipes(root: &Path, lava: &Lava, executable: File) -> Result<Recipes> {
    let compose = root.join("compose");
    let common = read_folder(&compose, "common")?;
    let server = read_folder(&compose, "server")?;
    let mut worker = read_folder(&compose, "worker")?;
    let mut world = read_folder(&compose, "world")?;
    let worker_ghost = worker
        .remove("worker/ghost.Dockerfile")
        .ok_or_else(|| Error::Usage("compose/worker/ghost.Dockerfile is missing".into()))?;
    let with_common = |mut files: BTreeMap<String, File>| {
        files.extend(common.clone());
        files
    };
    world.insert("ghost".into(), executable.clone());
    let (given_server, worker_stands_on) = match lava {
        Lava::Debian => (String::new(), Base::Debian),
        Lava::Images { server, worker } => (server.clone(), Base::Named(worker.clone())),
    };
    let worker_base = Recipe::new("worker-base", "worker/Dockerfile", with_common(worker), worker_stands_on)?;
    let ghost_files = BTreeMap::from([
        ("worker/ghost.Dockerfile".to_owned(), worker_ghost),
        ("ghost".to_owned(), executable),
    ]);
    let worker =
        Recipe::new("worker", "worker/ghost.Dockerfile", ghost_files, Base::Named(worker_base.tag.clone()))?;
    Ok(Recipes {
        server: match lava {
            Lava::Debian => {
                Some(Recipe::new("server", "server/Dockerfile", with_common(server), Base::Debian)?)
            }
            Lava::Images { .. } => None,
        },
        given_server,
        worker_base,
        worker,
        world: Recipe::new("world", "world/Dockerfile", world, Base::Debian)?,
    })
}

impl Recipe {
    fn new(name: &'static str, dockerfile: &str, files: BTreeMap<String, File>, base: Base) -> Result<Self> {
        if !files.contains_key(dockerfile) {
            return Err(Error::Usage(format!("compose/{dockerfile} is missing")));
        }
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        add(dockerfile);
        add(match &base {
            Base::Debian => base_image::DEBIAN,
            Base::Named(name) => name,
        });
        for (path, file) in &files {
            add(path);
            add(if file.executable { "x" } else { "-" });
            add(&file.hash);
        }
        let hash = hex::encode(hash.finalize());
        Ok(Self {
            name,
            dockerfile: dockerfile.to_owned(),
            files,
            base,
            tag: format!("{REPOSITORY}/{name}:{}", &hash[..16]),
        })
    }

    async fn build(self, base: &str) -> Result<Build> {
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
            .map_err(|error| Error::Infrastructure(format!("could not make a build context: {error}")))??;
        Ok(Build { tag, dockerfile, context, arguments })
    }

    fn context(&self) -> Result<Vec<u8>> {
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

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Usage(format!("could not read {}: {error}", path.display()))
}

/// The files below a folder of `compose/`, by their path in `compose/`.
fn read_folder(compose: &Path, folder: &str) -> Result<BTreeMap<String, File>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let path = compose.join(&folder);
        for entry in std::fs::read_dir(&path).map_err(|error| unreadable(&path, &error))? {
            let entry = entry.map_err(|error| unreadable(&path, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What editors and Python leave behind is no input.
            if name.starts_with('.') || name.ends_with('~') || name == "__pycache__" {
                continue;
            }
            let within = format!("{folder}/{name}");
            let path = entry.path();
            let meta = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
            if meta.is_dir() {
                pending.push(within);
            } else {
                let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
                files.insert(
                    within,
                    File {
                        executable: meta.permissions().mode() & 0o100 != 0,
                        hash: meta_lava_formats::sha256(&bytes),
                        content: Content::Bytes(bytes),
                    },
                );
            }
        }
    }
    Ok(files)
}

/// Our own executable, which is the ghost and the world in the images.
fn executable(architecture: &str) -> Result<File> {
    // Through the link, so that it is found when it was replaced while running.
    let path = PathBuf::from("/proc/self/exe");
    let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
    check_executable(&bytes, architecture).map_err(|reason| {
        Error::Infrastructure(format!("this executable can't be the ghost in the images: {reason}"))
    })?;
    Ok(File { executable: true, hash: meta_lava_formats::sha256(&bytes), content: Content::At(path) })
}

/// Whether an executable runs in any image of an architecture: statically
/// linked, and for it.
fn check_executable(elf: &[u8], architecture: &str) -> Result<(), String> {
    let bytes = |at: usize, count: usize| -> Result<u64, String> {
        let bytes = elf.get(at..at + count).ok_or("it is cut short")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is no 64-bit little-endian ELF".into());
    }
    let machine = match bytes(18, 2)? {
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        21 => "ppc64le",
        _ => "another machine",
    };
    if machine != architecture {
        return Err(format!("it is for {machine}, but the Docker engine runs on {architecture}"));
    }
    let number = |at, count| bytes(at, count).map(|value| usize::try_from(value).unwrap_or(usize::MAX / 4));
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        const PT_INTERP: u64 = 3;
        if bytes(table.saturating_add(index * size), 4)? == PT_INTERP {
            return Err("it is linked dynamically; build it with `cargo build` in this repository, whose \
                        .cargo/config.toml links statically, and without RUSTFLAGS in the environment"
                .into());
        }
    }
    Ok(())
}

/// Only one run of a user builds at a time. The kernel lets go of it with the process.
struct Lock(#[expect(dead_code, reason = "it is held")] std::fs::File);

impl Lock {
    async fn take(events: &EventSender) -> Result<Self> {
        let folder = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|folder| folder.is_dir())
            .unwrap_or_else(std::env::temp_dir);
        let path = folder.join(format!("meta-lava-images-{}.lock", nix::unistd::geteuid()));
        let failed = |error: std::io::Error| {
            Error::Infrastructure(format!("could not lock {}: {error}", path.display()))
        };
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        // A lock has no readiness to wait for but a thread that blocks, which
        // an interrupt could not end.
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let mut told = false;
        loop {
            ticks.tick().await;
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(std::fs::TryLockError::WouldBlock) if told => {}
                Err(std::fs::TryLockError::WouldBlock) => {
                    told = true;
                    progress(events, "waiting for another run that is building images".into());
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("common/a.sh", "a"),
            ("server/Dockerfile", "FROM x"),
            ("server/sub/b", "b"),
            ("worker/Dockerfile", "FROM x"),
            ("worker/ghost.Dockerfile", "FROM x"),
            ("world/Dockerfile", "FROM x"),
        ] {
            let path = dir.path().join("compose").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn tags(dir: &Path, lava: &Lava) -> Vec<String> {
        let recipes = recipes(dir, lava, ghost()).unwrap();
        recipes.all().map(|recipe| recipe.tag.clone()).collect()
    }

    fn ghost() -> File {
        File { executable: true, content: Content::Bytes(b"elf".to_vec()), hash: "hash".into() }
    }

    fn host_architecture() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    #[test]
    fn an_image_is_named_by_its_inputs_and_by_nothing_else() {
        let dir = compose();
        let before = tags(dir.path(), &Lava::Debian);
        assert_eq!(before, tags(dir.path(), &Lava::Debian));
        assert!(before[0].starts_with("meta-lava/server:"), "{before:?}");
        std::fs::write(dir.path().join("compose/server/sub/b"), "c").unwrap();
        let after = tags(dir.path(), &Lava::Debian);
        assert_ne!(before[0], after[0]);
        assert_eq!(before[1..], after[1..]);
        // What is below an image changes the image.
        std::fs::write(dir.path().join("compose/worker/Dockerfile"), "FROM y").unwrap();
        let third = tags(dir.path(), &Lava::Debian);
        assert_ne!(after[1], third[1]);
        assert_ne!(after[2], third[2]);
        assert_eq!(after[3], third[3]);
        // What all share changes all that have it.
        std::fs::write(dir.path().join("compose/common/a.sh"), "z").unwrap();
        let fourth = tags(dir.path(), &Lava::Debian);
        assert!(third.iter().zip(&fourth).take(3).all(|(a, b)| a != b));
        assert_eq!(third[3], fourth[3]);
        std::fs::write(dir.path().join("compose/server/.b.swp"), "").unwrap();
        assert_eq!(fourth, tags(dir.path(), &Lava::Debian));
        std::fs::set_permissions(
            dir.path().join("compose/common/a.sh"),
            std::fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        assert_ne!(fourth, tags(dir.path(), &Lava::Debian));
    }

    #[test]
    fn given_images_replace_the_server_and_lie_below_the_worker() {
        let dir = compose();
        let lava = Lava::Images { server: "s:1".into(), worker: "w:1".into() };
        let recipes = recipes(dir.path(), &lava, ghost()).unwrap();
        assert!(recipes.server.is_none());
        assert_eq!(recipes.given_server, "s:1");
        assert!(matches!(&recipes.worker_base.base, Base::Named(name) if name == "w:1"));
        assert_ne!(recipes.worker_base.tag, tags(dir.path(), &Lava::Debian)[1]);
    }

    #[test]
    fn a_context_has_its_files_and_folders() {
        let dir = compose();
        let recipes = recipes(dir.path(), &Lava::Debian, ghost()).unwrap();
        let context = recipes.server.unwrap().context().unwrap();
        let mut tar = tar::Archive::new(context.as_slice());
        let paths: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            paths,
            ["common", "common/a.sh", "server", "server/Dockerfile", "server/sub", "server/sub/b"]
        );
    }

    #[test]
    fn a_dynamic_or_foreign_executable_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check_executable(&own, host_architecture()), Ok(()));
        assert!(check_executable(&own, "s390x").unwrap_err().contains("s390x"));
        assert!(check_executable(b"#!/bin/sh", "amd64").is_err());
        assert!(check_executable(&own[..70], host_architecture()).is_err());
        // Any program of a distribution is dynamic.
        if let Ok(shell) = std::fs::read("/bin/sh") {
            assert!(check_executable(&shell, host_architecture()).unwrap_err().contains("dynamically"));
        }
    }
}
