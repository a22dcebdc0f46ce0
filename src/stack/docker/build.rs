//! Building images, pulling them, making them of a tar.

use std::collections::{HashMap, VecDeque};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bollard::models::CreateImageInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, CreateImageOptionsBuilder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::Engine;
use super::engine::fault;
use crate::error::{Error, Result};
use crate::text::printable;

/// How much of a failed build's output is shown.
const SHOWN: usize = 30;

/// What to build.
#[derive(Debug, Clone)]
pub struct Build {
    /// `name:tag` of the outcome.
    pub tag: String,
    /// The Dockerfile, its path within the context.
    pub dockerfile: String,
    /// The context, a tar.
    pub context: Vec<u8>,
    /// Build arguments.
    pub arguments: HashMap<String, String>,
}

/// Collects the lines of a build: passes some on, remembers the last ones.
struct Lines<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    last: VecDeque<String>,
    partial: String,
    passed: Option<Instant>,
}

impl<'a> Lines<'a> {
    fn new(progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        Self { progress, last: VecDeque::new(), partial: String::new(), passed: None }
    }

    fn take(&mut self, text: &str) {
        self.partial.push_str(text);
        while let Some(end) = self.partial.find('\n') {
            let line: String = self.partial.drain(..=end).collect();
            self.line(&line);
        }
    }

    fn line(&mut self, line: &str) {
        // A progress bar redraws its line; the last state is the line. Builders colour it.
        let line = console::strip_ansi_codes(line);
        let line = printable(line.trim_end().rsplit('\r').next().unwrap_or_default().trim_end());
        if line.is_empty() {
            return;
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        // Steps are few and all told; what they print is sampled.
        let step = line.starts_with("Step ") || line.starts_with('#');
        if step || self.passed.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            self.passed = Some(Instant::now());
            (self.progress)(line);
        }
    }

    fn tail(mut self) -> String {
        let partial = std::mem::take(&mut self.partial);
        self.line(&partial);
        Vec::from(self.last).join("\n")
    }
}

impl Engine {
    /// Builds an image. The classic builder does it, which every engine from
    /// 20.10 on has; where an engine has done away with it, the `docker`
    /// command and its BuildKit.
    ///
    /// # Errors
    /// [`Error::Broken`] with the last lines of the build when a step of it failed, else
    /// [`Error::Infrastructure`].
    pub async fn build(&self, build: Build, progress: &(dyn Fn(String) + Send + Sync)) -> Result<()> {
        let options = BuildImageOptionsBuilder::default()
            .dockerfile(&build.dockerfile)
            .t(&build.tag)
            .rm(true)
            .forcerm(true)
            .buildargs(&build.arguments)
            .build();
        let body = bollard::body_full(build.context.clone().into());
        let mut stream = Box::pin(whole(self.docker.build_image(options, None, Some(body))));
        let mut lines = Lines::new(progress);
        let mut begun = false;
        while let Some(info) = stream.next().await {
            match info {
                Ok(info) => {
                    begun = true;
                    if let Some(text) = info.stream {
                        lines.take(&text);
                    } else if let Some(status) = info.status {
                        lines.line(&status);
                    }
                }
                Err(error) if !begun && wants_buildkit(&error) => {
                    drop(stream);
                    return self.build_by_command(build, progress).await;
                }
                Err(error) => {
                    let is_step = is_failed_step(&error);
                    let error = fault(&format!("build image {}", build.tag), &error);
                    let error = error.with_last_words(lines.tail());
                    return Err(if is_step { error.of_what_is_inside() } else { error });
                }
            }
        }
        if self.image_id(&build.tag).await?.is_none() {
            let attempted = format!("build image {}", build.tag);
            return Err(Error::failed(attempted, "it ended without an image").with_last_words(lines.tail()));
        }
        Ok(())
    }

    async fn build_by_command(&self, build: Build, progress: &(dyn Fn(String) + Send + Sync)) -> Result<()> {
        let mut command = tokio::process::Command::new("docker");
        command
            .args(["build", "--progress=plain", "--file", &build.dockerfile, "--tag", &build.tag])
            .env("DOCKER_BUILDKIT", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        self.host().hand_to(&mut command);
        for (key, value) in &build.arguments {
            command.arg("--build-arg").arg(format!("{key}={value}"));
        }
        command.arg("-");
        let failed = |what: String| Error::failed(format!("build image {}", build.tag), what);
        let mut child = command.spawn().map_err(|error| {
            failed(format!(
                "the engine builds with BuildKit only, and the `docker` command for it did not start: {error}"
            ))
        })?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // When the build ends early its words say why.
                let _ = stdin.write_all(&build.context).await;
                let _ = stdin.shutdown().await;
            }
        };
        let mut lines = Lines::new(progress);
        let read = async {
            if let Some(stderr) = child.stderr.take() {
                let mut reader = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = reader.next_line().await {
                    lines.line(&line);
                }
            }
        };
        tokio::join!(feed, read);
        let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
        if status.success() {
            Ok(())
        } else {
            let tail = lines.tail();
            let is_step = tail.contains("did not complete successfully: exit code");
            let error = failed(format!("`docker build` ended with {status}")).with_last_words(tail);
            Err(if is_step { error.of_what_is_inside() } else { error })
        }
    }

    /// Pulls an image from its registry.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be pulled before the deadline.
    pub async fn pull(&self, image: &str, deadline: Duration) -> Result<()> {
        let options = CreateImageOptionsBuilder::default().from_image(image).build();
        let pulled = tokio::time::timeout(deadline, async {
            created(self.docker.create_image(Some(options), None, None), &format!("pull image {image}")).await
        })
        .await;
        pulled.unwrap_or_else(|_| {
            Err(Error::failed(
                format!("pull image {image}"),
                format!("not done after {} s", deadline.as_secs()),
            ))
        })
    }

    /// Makes an image of the tar of a root file system.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn import<S>(&self, repository: &str, tag: &str, tar: S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        self.import_with(repository, tag, tar, vec!["CMD [\"bash\"]".to_owned()]).await
    }

    /// As [`Engine::import`], with lines of a Dockerfile that say what the image is.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn import_with<S>(&self, repository: &str, tag: &str, tar: S, lines: Vec<String>) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .changes(lines)
            .build();
        let body = bollard::body_try_stream(tar);
        // A tag may stand in the name already.
        let name = if tag.is_empty() { repository.to_owned() } else { format!("{repository}:{tag}") };
        let stream = self.docker.create_image(Some(options), Some(body), None);
        created(stream, &format!("import image {name}")).await?;
        if self.image_id(&name).await?.is_none() {
            return Err(Error::infrastructure(format!("the import of image {name} ended without an image")));
        }
        Ok(())
    }
}

/// Reads to its end what an engine says of an image that it is to make: to do `what`.
async fn created(
    stream: impl Stream<Item = Result<CreateImageInfo, bollard::errors::Error>>,
    what: &str,
) -> Result<()> {
    let mut stream = Box::pin(whole(stream));
    while let Some(info) = stream.next().await {
        let info = info.map_err(|error| fault(what, &error))?;
        if let Some(message) = info.error_detail.and_then(|detail| detail.message) {
            return Err(Error::failed(what, message));
        }
    }
    Ok(())
}

/// What an engine says, up to an end that is torn.
fn whole<T>(
    stream: impl Stream<Item = Result<T, bollard::errors::Error>>,
) -> impl Stream<Item = Result<T, bollard::errors::Error>> {
    stream.take_while(|item| std::future::ready(!item.as_ref().is_err_and(is_torn_end)))
}

/// Whether all that an engine had to say was read, but for a line's end: bollard's decoder of JSON
/// lines (`read.rs`) takes a line as soon as it is whole, and calls what is left of its `\r\n` an
/// error when that comes by itself at the end. Whether the image is there is asked afterwards.
fn is_torn_end(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::IOError { err } if err.to_string() == "bytes remaining on stream")
}

/// Whether a command of the Dockerfile ended with a code of its own, and not the engine's work with it.
fn is_failed_step(error: &bollard::errors::Error) -> bool {
    match error {
        bollard::errors::Error::DockerStreamError { error } => error.contains("returned a non-zero code"),
        _ => false,
    }
}

/// Whether an engine refused to build because it has no classic builder.
fn wants_buildkit(error: &bollard::errors::Error) -> bool {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => {
            let message = message.to_lowercase();
            message.contains("buildkit")
                || message.contains("legacy builder")
                || message.contains("classic builder")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_is_left_of_a_line_end_is_no_error_and_a_broken_connection_is_one() {
        let error = |err: std::io::Error| bollard::errors::Error::IOError { err };
        assert!(is_torn_end(&error(std::io::Error::other("bytes remaining on stream"))));
        assert!(!is_torn_end(&error(std::io::ErrorKind::ConnectionReset.into())));
        assert!(!is_torn_end(&bollard::errors::Error::RequestTimeoutError));
    }

    #[test]
    fn a_command_that_failed_is_told_from_an_engine_that_did() {
        let said = |error: &str| bollard::errors::Error::DockerStreamError { error: error.into() };
        assert!(is_failed_step(&said("The command '/bin/sh -c x' returned a non-zero code: 1")));
        assert!(!is_failed_step(&said("no space left on device")));
        assert!(!is_failed_step(&bollard::errors::Error::RequestTimeoutError));
    }

    #[test]
    fn steps_are_told_the_rest_is_sampled_and_the_end_is_kept() {
        let told = Mutex::new(Vec::new());
        let progress = |line: String| told.lock().unwrap().push(line);
        let mut lines = Lines::new(&progress);
        lines.take("Step 1/2 : FROM x\n ---> 1\nStep 2/2 : RUN y\n");
        for number in 0..100 {
            lines.take(&format!("line {number}\n"));
        }
        lines.take("10%\r20%\r\u{1b}[91mhalf a line");
        let tail = lines.tail();
        assert_eq!(*told.lock().unwrap(), ["Step 1/2 : FROM x", "Step 2/2 : RUN y"]);
        assert_eq!(tail.lines().count(), SHOWN);
        assert!(tail.ends_with("line 99\nhalf a line"), "{tail}");
    }
}
