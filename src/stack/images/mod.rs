//! The images: found by the hash of what they are made of, or built.

pub mod base;
mod debian;
pub mod executable;
mod lava;
mod lock;
mod recipe;
mod source;
mod upstream;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use meta_lava_ghost::tools;

use crate::error::{Error, Result};
use crate::event::{Event, EventSender, Phase};
use crate::stack::docker::Engine;
use crate::stack::docker::objects::{Kind, Object};
use crate::stack::server_kind::{self, ServerKind};

use base::Debian;
use debian::{Archive, Package};
pub use lava::{Lava, LavaArgs, Origin, Which};
use lock::Lock;
use recipe::{Base, Content, File, Recipe, read_file, read_folder};
pub use upstream::{Commit, commits};

/// Begin of the names of all images of ours. They are known by it and not by a
/// label, which would cost the classic builder one more layer for each.
const REPOSITORY: &str = "meta-lava";
/// The images that a developer makes with every build, of ours or of LAVA's; each
/// is made in seconds.
const OFTEN: [&str; 4] = ["worker", "world", "server-source", "worker-source"];
/// Those that are made of nothing but a LAVA's source, laid over another image.
const OF_SOURCE: [&str; 2] = ["server-source", "worker-source"];
/// What the lower image of a worker is made with; the rest of `compose/worker` goes into the upper
/// one.
const WORKER_BASE: [&str; 4] =
    ["common/apt-lean.sh", "common/lava-version", "worker/Dockerfile", "worker/setup.sh"];
/// How the upper one is made.
const GHOST_DOCKERFILE: &str = "worker/ghost.Dockerfile";
/// So many of each of them are kept, besides the ones in use.
const KEPT: usize = 3;
/// How long an image that was asked for may take to be pulled.
const PULL: Duration = Duration::from_secs(600);

/// The images that a stack is made of, as the engine knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Server.
    pub server: String,
    /// How the server wants to be started.
    pub server_kind: &'static ServerKind,
    /// Worker, with the ghost.
    pub worker: String,
    /// The outside world.
    pub world: String,
}

/// An image and what it stands on, as far as we make it: the lowest first.
struct Chain {
    ground: Ground,
    /// Which LAVA is in it, as a part of the images' names.
    of: String,
    recipes: Vec<Recipe>,
}

/// What the lowest of a [`Chain`] stands on.
#[derive(Debug, Clone)]
enum Ground {
    /// A suite of Debian's.
    Debian(Debian),
    /// An image that somebody else made.
    Given(Given),
}

/// An image that somebody else made.
#[derive(Debug, Clone)]
struct Given {
    name: String,
    /// What it is now: another one may come to have its name.
    id: String,
}

impl Chain {
    fn on(ground: Ground, of: &str) -> Self {
        Self { ground, of: of.to_owned(), recipes: Vec::new() }
    }

    /// Puts one more image on top.
    fn add(&mut self, name: &'static str, dockerfile: &str, files: BTreeMap<String, File>) -> Result<()> {
        let base = match (self.recipes.last(), &self.ground) {
            (Some(below), _) => Base::Ours(below.tag.clone()),
            (None, Ground::Given(given)) => Base::Given { name: given.name.clone(), id: given.id.clone() },
            (None, Ground::Debian(debian)) => Base::Debian(debian.clone()),
        };
        self.recipes.push(Recipe::new(name, &self.of, dockerfile, files, base)?);
        Ok(())
    }

    /// Name of the topmost image.
    fn name(&self) -> String {
        match (self.recipes.last(), &self.ground) {
            (Some(recipe), _) => recipe.tag.clone(),
            (None, Ground::Given(given)) => given.name.clone(),
            (None, Ground::Debian(debian)) => debian.name(),
        }
    }
}

/// Where the images of a LAVA begin.
#[derive(Debug, Clone)]
enum Grounds {
    /// Debian's packages, on a base of theirs.
    Debian(Package),
    /// Somebody else's images.
    Given {
        /// The server, which stays as it is.
        server: Given,
        /// The worker, which is built upon.
        worker: Given,
    },
}

/// All images of a stack.
struct Recipes {
    server: Chain,
    worker: Chain,
    world: Chain,
}

impl Recipes {
    fn chains(&self) -> [&Chain; 3] {
        [&self.server, &self.worker, &self.world]
    }

    fn all(&self) -> impl Iterator<Item = &Recipe> {
        self.chains().into_iter().flat_map(|chain| &chain.recipes)
    }
}

/// What images are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A stack.
    Stack,
    /// One whose worker measures which lines of LAVA its jobs run.
    Measured,
    /// The server alone.
    Server,
}

/// Finds or builds the images of a stack. `root`: see [`crate::root::root`].
///
/// # Errors
/// [`Error::Broken`] with the end of the build where a LAVA's source can't be installed,
/// [`Error::Infrastructure`] with that of any other build that failed;
/// [`Error::Usage`] when a given image has no LAVA that is known how to start.
pub async fn ensure(
    engine: &Engine,
    root: &Path,
    lava: &Lava,
    wanted: Wanted,
    events: &EventSender,
) -> Result<Images> {
    let (grounds, server_kind) = match &lava.origin {
        Origin::Debian(package) => (Grounds::Debian(package.clone()), &server_kind::own::KIND),
        Origin::Images { server, worker } => {
            let grounds = Grounds::Given {
                server: find(engine, "--server-image", server, events).await?,
                worker: find(engine, "--worker-image", worker, events).await?,
            };
            (grounds, server_kind::of_image(server, &engine.image_entrypoint(server).await?)?)
        }
    };
    let mut recipes =
        read(engine, root, grounds, lava.source.as_ref().map(|source| source.folder().to_owned()), wanted)
            .await?;
    if wanted == Wanted::Server {
        recipes.worker.recipes.clear();
        recipes.world.recipes.clear();
    }
    if !present(engine, &recipes).await? {
        // Two runs that build the same at once would both succeed, each
        // wasting half of the machine; the second waits instead.
        let lock = Lock::take(events).await?;
        build(engine, &recipes, events).await.map_err(|error| lava.blame(moved_on(error, &lava.origin)))?;
        drop(lock);
        prune(engine, &recipes).await;
    }
    Ok(Images {
        server: recipes.server.name(),
        server_kind,
        worker: recipes.worker.name(),
        world: recipes.world.name(),
    })
}

/// An archive keeps one version of a package: the one that it is remembered to have may be gone.
fn moved_on(error: Error, origin: &Origin) -> Error {
    match (origin, error) {
        (Origin::Debian(package), Error::Infrastructure(error))
            if error.said().contains(&format!("Version '{}' for", package.version)) =>
        {
            let found = format!(
                "Debian's {} has no lava-server {} any more; `--refresh` asks what it has",
                package.suite, package.version
            );
            Error::infrastructure(found).with_last_words(error.said())
        }
        (_, error) => error,
    }
}

/// An image that an option names: on this engine, or pulled.
async fn find(engine: &Engine, option: &str, image: &str, events: &EventSender) -> Result<Given> {
    if engine.image_id(image).await?.is_none() {
        progress(events, format!("pulling {image}"));
        engine.pull(image, PULL).await.map_err(|error| {
            Error::infrastructure(format!("{error} (it is named by {option} and not on this engine)"))
        })?;
    }
    let id = engine.image_id(image).await?.ok_or_else(|| {
        Error::infrastructure(format!("{image}, named by {option}, was pulled and is not on this engine"))
    })?;
    Ok(Given { name: image.to_owned(), id })
}

/// The images of all LAVAs of Debian's that are known here, built or not.
///
/// # Errors
/// As [`ensure`].
pub async fn of_all(engine: &Engine, root: &Path) -> Result<Vec<String>> {
    names(engine, root, Archive::new(&crate::root::cache(root), false, &|_| {}).remembered()).await
}

/// What is there of the images that the default LAVA needs: name, and whether. Nothing where
/// the archive was not asked yet which one that is.
///
/// # Errors
/// As [`ensure`].
pub async fn status(engine: &Engine, root: &Path) -> Result<Vec<(String, bool)>> {
    let known = Archive::new(&crate::root::cache(root), false, &|_| {}).remembered();
    let default = lava::known_default(root, &known).into_iter().collect();
    let mut status = Vec::new();
    for name in names(engine, root, default).await? {
        let there = engine.image_id(&name).await?.is_some();
        status.push((name, there));
    }
    Ok(status)
}

async fn names(engine: &Engine, root: &Path, packages: Vec<Package>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for package in packages {
        let recipes = read(engine, root, Grounds::Debian(package), None, Wanted::Stack).await?;
        names.extend(recipes.all().map(|recipe| recipe.tag.clone()));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads what the images are made of.
async fn read(
    engine: &Engine,
    root: &Path,
    grounds: Grounds,
    source: Option<PathBuf>,
    wanted: Wanted,
) -> Result<Recipes> {
    let architecture = engine.preflight().await?.architecture;
    let root = root.to_owned();
    tokio::task::spawn_blocking(move || {
        recipes(&root, grounds, source.as_deref(), executable::own(&architecture)?, wanted)
    })
    .await
    .map_err(|error| Error::failed("read what the images are made of", error))?
}

fn progress(events: &EventSender, line: String) {
    let _ = events.send(Event::Progress(Phase::Images, line));
}

async fn present(engine: &Engine, recipes: &Recipes) -> Result<bool> {
    for recipe in recipes.chains().into_iter().filter_map(|chain| chain.recipes.last()) {
        if engine.image_id(&recipe.tag).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn build(engine: &Engine, recipes: &Recipes, events: &EventSender) -> Result<()> {
    let architecture = engine.preflight().await?.architecture;
    // A base is found once, and only when something that stands on it is missing.
    let bases: HashMap<Debian, tokio::sync::OnceCell<String>> = recipes
        .chains()
        .into_iter()
        .filter_map(|chain| match &chain.ground {
            Ground::Debian(debian) => Some((debian.clone(), tokio::sync::OnceCell::new())),
            Ground::Given(_) => None,
        })
        .collect();
    let make = |recipe: Recipe| {
        let (bases, architecture) = (&bases, &architecture);
        async move {
            if engine.image_id(&recipe.tag).await?.is_some() {
                return Ok(());
            }
            let base = match &recipe.base {
                Base::Ours(name) | Base::Given { name, .. } => name.clone(),
                Base::Debian(debian) => {
                    let say = |line| progress(events, line);
                    let ensure = || debian.ensure(engine, architecture, &say);
                    match bases.get(debian) {
                        Some(base) => base.get_or_try_init(ensure).await?.clone(),
                        None => ensure().await?,
                    }
                }
            };
            let name = recipe.name;
            progress(events, format!("{name}: building {}", recipe.tag));
            let begun = std::time::Instant::now();
            let build = recipe.build(&base).await?;
            let built = engine.build(build, &|line| progress(events, format!("{name}: {line}"))).await;
            built.map_err(|error| match error {
                // Only there a step does what a LAVA's source says; elsewhere it is ours, or asks an archive.
                Error::Broken(said) if !OF_SOURCE.contains(&name) => Error::Infrastructure(said),
                error => error,
            })?;
            progress(events, format!("{name}: built in {:.1} s", begun.elapsed().as_secs_f64()));
            Ok::<_, Error>(())
        }
    };
    let chain = |chain: &Chain| {
        let recipes = chain.recipes.clone();
        async move {
            // What lies below is only needed when the topmost itself is missing.
            if let Some(last) = recipes.last()
                && engine.image_id(&last.tag).await?.is_none()
            {
                for recipe in recipes {
                    make(recipe).await?;
                }
            }
            Ok::<_, Error>(())
        }
    };
    let [server, worker, world] = recipes.chains().map(chain);
    tokio::try_join!(server, worker, world).map(|_| ())
}

/// Whether a name is that of an image with the same [`Recipe::kin`].
fn is_kin(tag: &str, kin: &str) -> bool {
    tag.strip_prefix(kin).is_some_and(|hash| hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Removes the oldest of the images that are made anew with every change of our
/// executable or of a LAVA's source; that one is in use is no reason to fail.
async fn prune(engine: &Engine, recipes: &Recipes) {
    for recipe in recipes.all().filter(|recipe| OFTEN.contains(&recipe.name)) {
        let Ok(mut images) = engine.images(&format!("{REPOSITORY}/{}", recipe.name)).await else { return };
        // Each LAVA has its own.
        images.retain(|image| image.tags.is_empty() || image.tags.iter().any(|tag| is_kin(tag, &recipe.kin)));
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

/// Removes all images of ours that no container uses and that are not among `keep`; says which.
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

fn recipes(
    root: &Path,
    grounds: Grounds,
    source: Option<&Path>,
    executable: File,
    wanted: Wanted,
) -> Result<Recipes> {
    let compose = root.join("compose");
    let common = read_folder(&compose, "common")?;
    let server_files = read_folder(&compose, "server")?;
    let worker_files = read_folder(&compose, "worker")?;
    let mut world_files = read_folder(&compose, "world")?;
    let source = source.map(|folder| source::Layers::read(&compose, folder)).transpose()?;
    let of = match &grounds {
        Grounds::Debian(package) => base::label(&package.version),
        Grounds::Given { .. } => "given".to_owned(),
    };
    let with_common = |mut files: BTreeMap<String, File>| {
        files.extend(common.clone());
        if let Grounds::Debian(package) = &grounds {
            // What is installed is what the archive was asked for.
            let version = format!("{}\n", package.version).into_bytes();
            let hash = meta_lava_formats::sha256(&version);
            let file = File { executable: false, content: Content::Bytes(version), hash };
            files.insert("common/lava-version".into(), file);
        }
        files
    };
    let (mut server, mut worker) = match &grounds {
        Grounds::Debian(package) => {
            let ground = Ground::Debian(Debian::of(&package.suite, &package.version));
            let mut server = Chain::on(ground.clone(), &of);
            server.add("server", "server/Dockerfile", with_common(server_files))?;
            (server, Chain::on(ground, &of))
        }
        Grounds::Given { server, worker } => {
            (Chain::on(Ground::Given(server.clone()), &of), Chain::on(Ground::Given(worker.clone()), &of))
        }
    };
    // Below is what takes minutes to install; above, what is only copied.
    let (worker_base, worker_top): (BTreeMap<_, _>, BTreeMap<_, _>) =
        with_common(worker_files).into_iter().partition(|(path, _)| WORKER_BASE.contains(&path.as_str()));
    worker.add("worker-base", "worker/Dockerfile", worker_base)?;
    if let Some(source) = source {
        // What lies below is the same without a source.
        for chain in [&mut server, &mut worker] {
            chain.of = format!("{of}-and-source");
        }
        source.add_to(&mut server, ["server-tools", "server-source"])?;
        source.add_to(&mut worker, ["worker-tools", "worker-source"])?;
    }
    if wanted == Wanted::Measured {
        worker.add("worker-coverage", "coverage/Dockerfile", read_folder(&compose, "coverage")?)?;
    }
    let mut top: BTreeMap<String, File> = worker_top
        .into_iter()
        .map(|(path, file)| match path.as_str() {
            GHOST_DOCKERFILE => (path, file),
            _ => (format!("layer/usr/lib/meta-lava/{path}"), file),
        })
        .collect();
    top.insert("layer/usr/bin/ghost".into(), executable.clone());
    for name in tools::names() {
        top.insert(format!("layer/usr/local/bin/{name}"), File::program(tools::program(name)));
    }
    worker.add("worker", GHOST_DOCKERFILE, top)?;
    let mut world = Chain::on(Ground::Debian(Debian::world()), "");
    world_files.insert("layer/usr/bin/ghost".into(), executable);
    // Data is read when it is run: what is in the list now, whatever built this executable.
    const WORLD: &str = "layer/usr/lib/meta-lava";
    let list = read_file(&root.join("world/artifacts.yaml"))?;
    world_files.insert(format!("{WORLD}/world/artifacts.yaml"), list);
    let userland = read_folder(&root.join("world"), "userland")?;
    world_files.extend(userland.into_iter().map(|(path, file)| (format!("{WORLD}/world/{path}"), file)));
    world.add("world", "world/Dockerfile", world_files)?;
    Ok(Recipes { server, worker, world })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn compose() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("common/a.sh", "a"),
            ("server/Dockerfile", "FROM x"),
            ("server/sub/b", "b"),
            ("source/Dockerfile", "FROM x"),
            ("source/tools.Dockerfile", "FROM x"),
            ("worker/Dockerfile", "FROM x"),
            ("worker/ghost.Dockerfile", "FROM x"),
            ("world/Dockerfile", "FROM x"),
        ] {
            source::tests::write(&dir.path().join("compose"), path, text);
        }
        source::tests::write(dir.path(), "world/artifacts.yaml", "a");
        source::tests::write(dir.path(), "world/userland/etc/issue", "b");
        dir
    }

    fn ghost() -> File {
        File { executable: true, content: Content::Bytes(b"elf".to_vec()), hash: "hash".into() }
    }

    fn tags(dir: &Path) -> Vec<String> {
        tags_of(&recipes(dir, debian(), None, ghost(), Wanted::Stack).unwrap())
    }

    fn tags_of(recipes: &Recipes) -> Vec<String> {
        recipes.all().map(|recipe| recipe.tag.clone()).collect()
    }

    fn debian() -> Grounds {
        Grounds::Debian(Package { suite: "bookworm".into(), version: "2023.01-2".into() })
    }

    fn given(worker: &str) -> Grounds {
        let image = |name: &str, id: &str| Given { name: name.into(), id: id.into() };
        Grounds::Given { server: image("s:1", "x"), worker: image("w:1", worker) }
    }

    #[test]
    fn an_image_is_named_by_its_inputs_and_by_nothing_else() {
        let dir = compose();
        let before = tags(dir.path());
        assert_eq!(before, tags(dir.path()));
        assert!(before[0].starts_with("meta-lava/server:2023.01-2-"), "{before:?}");
        std::fs::write(dir.path().join("compose/server/sub/b"), "c").unwrap();
        let after = tags(dir.path());
        assert_ne!(before[0], after[0]);
        assert_eq!(before[1..], after[1..]);
        // What is below an image changes the image.
        std::fs::write(dir.path().join("compose/worker/Dockerfile"), "FROM y").unwrap();
        let third = tags(dir.path());
        assert_ne!(after[1], third[1]);
        assert_ne!(after[2], third[2]);
        assert_eq!(after[3], third[3]);
        // What all share changes all that have it: a worker only its upper image.
        std::fs::write(dir.path().join("compose/common/a.sh"), "z").unwrap();
        let fourth = tags(dir.path());
        let same: Vec<bool> = third.iter().zip(&fourth).map(|(a, b)| a == b).collect();
        assert_eq!(same, [false, true, false, true]);
        std::fs::write(dir.path().join("compose/server/.b.swp"), "").unwrap();
        assert_eq!(fourth, tags(dir.path()));
        std::fs::set_permissions(
            dir.path().join("compose/common/a.sh"),
            std::fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        assert_ne!(fourth, tags(dir.path()));
    }

    #[test]
    fn the_world_is_made_of_what_its_list_says_now() {
        let dir = compose();
        let mut before = tags(dir.path());
        for path in ["world/artifacts.yaml", "world/userland/etc/issue"] {
            source::tests::write(dir.path(), path, "other");
            let after = tags(dir.path());
            let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
            assert_eq!(changed, [false, false, false, true], "{path}");
            before = after;
        }
    }

    #[test]
    fn a_version_that_the_archive_no_longer_has_is_told_with_what_to_do() {
        let package = Package { suite: "sid".into(), version: "2026.10-1".into() };
        let told = |said: &str| {
            let error = Error::failed("build it", "it ended with 100").with_last_words(said);
            moved_on(error, &Origin::Debian(package.clone())).brief()
        };
        let apt = "E: Version '2026.10-1' for 'lava-server' was not found";
        assert!(told(apt).starts_with("Debian's sid has no lava-server 2026.10-1 any more; `--refresh`"));
        assert_eq!(told("no room"), "could not build it: it ended with 100");
    }

    #[test]
    fn each_lava_has_images_of_its_own_and_all_have_one_world() {
        let dir = compose();
        let of = |suite: &str, version: &str| {
            let package = Package { suite: suite.into(), version: version.into() };
            tags_of(&recipes(dir.path(), Grounds::Debian(package), None, ghost(), Wanted::Stack).unwrap())
        };
        let (old, new) = (of("bookworm", "2023.01-2"), of("sid", "2026.10-1"));
        assert!(old.iter().zip(&new).take(3).all(|(a, b)| a != b));
        assert_eq!(old[3], new[3]);
        assert_ne!(new[0], of("sid", "2026.11-1")[0]);
        assert!(is_kin(&new[2], "meta-lava/worker:2026.10-1-"));
        assert!(!is_kin(&old[2], "meta-lava/worker:2026.10-1-"));
        assert!(!is_kin(&new[2], "meta-lava/worker:2026.10-"));
    }

    #[test]
    fn given_images_replace_the_server_and_lie_below_the_worker() {
        let dir = compose();
        let of = |id| recipes(dir.path(), given(id), None, ghost(), Wanted::Stack).unwrap();
        let first = of("a");
        assert_eq!(first.server.name(), "s:1");
        assert!(first.server.recipes.is_empty());
        let lowest = &first.worker.recipes[0];
        assert!(matches!(&lowest.base, Base::Given { name, .. } if name == "w:1"));
        assert_ne!(lowest.tag, tags(dir.path())[1]);
        // Another image may have come to have the name.
        assert_ne!(tags_of(&first), tags_of(&of("b")));
    }

    #[test]
    fn a_source_lies_over_the_server_and_below_the_ghost() {
        let dir = compose();
        let lava = source::tests::lava();
        let of = || recipes(dir.path(), given("x"), Some(lava.path()), ghost(), Wanted::Stack).unwrap();
        let names = |chain: &Chain| chain.recipes.iter().map(|recipe| recipe.name).collect::<Vec<_>>();
        let before = of();
        let without = recipes(dir.path(), given("x"), None, ghost(), Wanted::Stack).unwrap();
        assert_eq!(before.worker.recipes[0].tag, without.worker.recipes[0].tag);
        assert_eq!(names(&before.server), ["server-tools", "server-source"]);
        assert_eq!(names(&before.worker), ["worker-base", "worker-tools", "worker-source", "worker"]);
        // A change of the source leaves what is below it.
        source::tests::write(lava.path(), "lava_server/urls.py", "");
        let after = of();
        assert_eq!(before.server.recipes[0].tag, after.server.recipes[0].tag);
        assert_ne!(before.server.name(), after.server.name());
        assert_eq!(before.worker.recipes[1].tag, after.worker.recipes[1].tag);
        assert_ne!(before.worker.name(), after.worker.name());
        assert_eq!(before.world.name(), after.world.name());
        // One of what it needs does not.
        source::tests::write(lava.path(), "share/requirements/debian/bookworm.yaml", "");
        assert_ne!(of().server.recipes[0].tag, before.server.recipes[0].tag);
    }

    #[test]
    fn a_context_has_its_files_and_folders() {
        let dir = compose();
        let recipes = recipes(dir.path(), debian(), None, ghost(), Wanted::Stack).unwrap();
        let context = recipes.server.recipes[0].context().unwrap();
        let mut tar = tar::Archive::new(context.as_slice());
        let paths: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            paths,
            [
                "common",
                "common/a.sh",
                "common/lava-version",
                "server",
                "server/Dockerfile",
                "server/sub",
                "server/sub/b"
            ]
        );
    }
}
