//! What all images stand on: `debian:SUITE-slim`, or what comes close.

use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::error::{Error, Result};
use crate::programs::{has_program, may_install};
use crate::stack::docker::Engine;
use crate::stack::docker::objects::tail;

/// The suite whose base the world stands on, whichever LAVA is tested: its artifacts are the
/// same for all.
pub const WORLD: &str = "bookworm";
/// What is made on the spot where Debian's can't be had. Under our own name:
/// others on this machine shall not take it for Debian's.
const REPOSITORY: &str = "meta-lava/base";
/// A registry that has not delivered 30 MB by then is not worth waiting for.
const PULL: Duration = Duration::from_secs(60);

/// Where Debian's packages are, if it is said. Else apt and mmdebstrap know a place themselves.
pub(super) fn mirror() -> Option<String> {
    std::env::var("META_LAVA_DEBIAN_MIRROR").ok().filter(|mirror| !mirror.is_empty())
}

/// A base image to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Debian {
    /// `bookworm`, `sid`, ...
    suite: String,
    /// Of a suite that moves, what it was taken for: packages of another day may not go with it.
    of: Option<String>,
}

impl Debian {
    /// The base of a suite, for a LAVA of this version.
    #[must_use]
    pub fn of(suite: &str, version: &str) -> Self {
        let of = (suite != WORLD).then(|| label(version));
        Self { suite: suite.to_owned(), of }
    }

    /// The base of the world.
    #[must_use]
    pub fn world() -> Self {
        Self { suite: WORLD.into(), of: None }
    }

    /// Debian's own image.
    #[must_use]
    pub fn name(&self) -> String {
        format!("debian:{}-slim", self.suite)
    }

    /// What it is, as far as an image on it is concerned.
    pub(super) fn key(&self) -> String {
        let of = self.of.as_deref().map(|of| format!(" of {of}")).unwrap_or_default();
        format!("{}{of}", self.name())
    }

    /// What is made where that can't be had.
    fn made(&self) -> (String, String) {
        let tag = match &self.of {
            None => self.suite.clone(),
            Some(of) => format!("{}-{of}", self.suite),
        };
        (format!("{REPOSITORY}:{tag}"), tag)
    }

    /// The name of the image, pulled or made if it is not there.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it can neither be pulled nor made.
    pub async fn ensure(
        &self,
        engine: &Engine,
        architecture: &str,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String> {
        if let Some(name) = self.present(engine).await? {
            return Ok(name);
        }
        let debian = self.name();
        progress(format!("pulling {debian}"));
        match engine.pull(&debian, PULL).await {
            Ok(()) => return Ok(debian),
            Err(error) => progress(format!("{error}; making a base image with mmdebstrap instead")),
        }
        make(engine, architecture, self, progress).await?;
        Ok(self.made().0)
    }

    /// The name of the image, if there is one.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine does not answer.
    pub async fn present(&self, engine: &Engine) -> Result<Option<String>> {
        for name in [self.name(), self.made().0] {
            if engine.image_id(&name).await?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// A version as a part of an image's tag.
pub(super) fn label(version: &str) -> String {
    version.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' }).collect()
}

/// Makes it with mmdebstrap, whose tar goes straight into the engine.
async fn make(
    engine: &Engine,
    architecture: &str,
    debian: &Debian,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<()> {
    let ((name, tag), debian, suite) = (debian.made(), debian.name(), &debian.suite);
    if !has_program("mmdebstrap") {
        if !may_install() {
            return Err(Error::infrastructure(format!(
                "no base image: {debian} is not here, could not be pulled, and can't be made without mmdebstrap; run `apt-get install mmdebstrap` as root, or `docker load` a saved {debian}"
            )));
        }
        progress("installing mmdebstrap".into());
        install(&["mmdebstrap", "debian-archive-keyring"]).await?;
    }
    progress(format!("making {name} with mmdebstrap"));
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--include=ca-certificates", "--format=tar"]);
    command.arg(format!("--architectures={architecture}"));
    for option in [
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/info/*",
        "path-exclude=/usr/share/locale/*",
        "path-exclude=/usr/share/doc/*",
        "path-include=/usr/share/doc/*/copyright",
    ] {
        command.arg(format!("--dpkgopt={option}"));
    }
    if let Some(proxy) = apt_proxy().await {
        command.arg(format!("--aptopt=Acquire::http::Proxy \"{proxy}\""));
    }
    // A mirror may be behind; what it has is signed all the same.
    command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    command.args([suite, "-"]).args(mirror());
    let failed = |what: &str| Error::failed("make a base image with mmdebstrap", what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    let stderr = child.stderr.take();
    let said = async {
        let mut text = String::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    };
    let tar = tar_of(child).ok_or_else(|| failed("it has no output"))?;
    let (imported, said) = tokio::join!(engine.import(REPOSITORY, &tag, tar), said);
    imported.map_err(|error| failed(&error.to_string()).with_last_words(tail(&said, 15)))
}

/// What a child prints, as a stream that ends in an error if the child did: a
/// tar that was cut short must not become an image.
fn tar_of(mut child: Child) -> Option<impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static> {
    let stdout = child.stdout.take()?;
    Some(futures_util::stream::unfold(Some((child, stdout)), |state| async move {
        let (mut child, mut stdout) = state?;
        let mut buffer = BytesMut::with_capacity(1 << 18);
        match stdout.read_buf(&mut buffer).await {
            Ok(0) => match child.wait().await {
                Ok(status) if status.success() => None,
                Ok(status) => Some((Err(std::io::Error::other(format!("it ended with {status}"))), None)),
                Err(error) => Some((Err(error), None)),
            },
            Ok(_) => Some((Ok(buffer.freeze()), Some((child, stdout)))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// The proxy that this machine's apt uses, unless it is one that only listens here.
async fn apt_proxy() -> Option<String> {
    let output = Command::new("apt-config")
        .args(["shell", "PROXY", "Acquire::http::Proxy"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let proxy = text.trim().strip_prefix("PROXY='")?.strip_suffix('\'')?;
    (!proxy.is_empty() && proxy != "DIRECT" && !proxy.contains("127.0.0.1") && !proxy.contains("localhost"))
        .then(|| proxy.to_owned())
}

/// Installs packages on this machine. Where another program is installing at the same time,
/// apt waits for its lock: up to five minutes, rather than fail at once.
async fn install(packages: &[&str]) -> Result<()> {
    let run = |arguments: Vec<String>| async move {
        Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Error::failed("start apt-get", error))
    };
    let install: Vec<String> =
        ["-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends"]
            .iter()
            .chain(packages)
            .map(|word| (*word).to_owned())
            .collect();
    if run(install.clone()).await?.status.success() {
        return Ok(());
    }
    // A machine that has never asked what there is.
    run(vec!["update".into()]).await?;
    let output = run(install).await?;
    if output.status.success() {
        return Ok(());
    }
    let attempted = format!("install {} with apt-get", packages.join(" and "));
    Err(Error::failed(attempted, output.status)
        .with_last_words(tail(&String::from_utf8_lossy(&output.stderr), 15)))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    async fn printed(script: &str) -> Vec<Result<Bytes, std::io::Error>> {
        let child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        tar_of(child).unwrap().collect().await
    }

    #[tokio::test]
    async fn a_tar_that_was_cut_short_is_an_error() {
        let whole = printed("echo tar").await;
        assert!(matches!(whole.as_slice(), [Ok(bytes)] if bytes == "tar\n"), "{whole:?}");
        let cut = printed("echo t; exit 3").await;
        assert!(matches!(cut.as_slice(), [Ok(_), Err(error)] if error.to_string().contains('3')), "{cut:?}");
    }
}
