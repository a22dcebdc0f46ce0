//! What all images stand on: `debian:bookworm-slim`, or what comes close.

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

/// Debian's own.
pub const DEBIAN: &str = "debian:bookworm-slim";
/// What is made on the spot where Debian's can't be had. Under our own name:
/// others on this machine shall not take it for Debian's.
const REPOSITORY: &str = "meta-lava/base";
const TAG: &str = "bookworm";
/// A registry that has not delivered 30 MB by then is not worth waiting for.
const PULL: Duration = Duration::from_secs(60);

/// The name of the base image, pulled or made if it is not there.
///
/// # Errors
/// [`Error::Infrastructure`] when it can neither be pulled nor made.
pub async fn ensure(
    engine: &Engine,
    architecture: &str,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<String> {
    if let Some(name) = present(engine).await? {
        return Ok(name);
    }
    progress(format!("pulling {DEBIAN}"));
    match engine.pull(DEBIAN, PULL).await {
        Ok(()) => return Ok(DEBIAN.into()),
        Err(error) => progress(format!("{error}; making a base image with mmdebstrap instead")),
    }
    make(engine, architecture, progress).await?;
    Ok(format!("{REPOSITORY}:{TAG}"))
}

/// The name of the base image, if there is one.
///
/// # Errors
/// [`Error::Infrastructure`] when the engine does not answer.
pub async fn present(engine: &Engine) -> Result<Option<String>> {
    for name in [DEBIAN.to_owned(), format!("{REPOSITORY}:{TAG}")] {
        if engine.image_id(&name).await?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Makes it with mmdebstrap, whose tar goes straight into the engine.
async fn make(engine: &Engine, architecture: &str, progress: &(dyn Fn(String) + Send + Sync)) -> Result<()> {
    if !has_program("mmdebstrap") {
        if !may_install() {
            return Err(Error::Infrastructure(format!(
                "no base image: {DEBIAN} is not here, could not be pulled, and can't be made without \
                 mmdebstrap; run `apt-get install mmdebstrap` as root, or `docker load` a saved {DEBIAN}"
            )));
        }
        progress("installing mmdebstrap".into());
        install(&["mmdebstrap", "debian-archive-keyring"]).await?;
    }
    progress(format!("making {REPOSITORY}:{TAG} with mmdebstrap"));
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
    command.args(["bookworm", "-"]);
    if let Some(mirror) = std::env::var("META_LAVA_DEBIAN_MIRROR").ok().filter(|mirror| !mirror.is_empty()) {
        command.arg(mirror);
    }
    let failed =
        |what: &str| Error::Infrastructure(format!("could not make a base image with mmdebstrap: {what}"));
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
    let (imported, said) = tokio::join!(engine.import(REPOSITORY, TAG, tar), said);
    imported.map_err(|error| failed(&format!("{error}; the end of what it said:\n{}", tail(&said, 15))))
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

async fn install(packages: &[&str]) -> Result<()> {
    let run = |arguments: Vec<String>| async move {
        Command::new("apt-get")
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Error::Infrastructure(format!("could not start apt-get: {error}")))
    };
    let install: Vec<String> = ["install", "--yes", "--no-install-recommends"]
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
    Err(Error::Infrastructure(format!(
        "could not install {} with apt-get ({}):\n{}",
        packages.join(" and "),
        output.status,
        tail(&String::from_utf8_lossy(&output.stderr), 15)
    )))
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
