//! Commands in running containers.

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::Engine;
use super::engine::fault;
use crate::error::{Error, Result};

/// Bytes that a command may print.
const OUTPUT: usize = 1 << 20;

/// What a command printed and ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + n after signal n.
    pub code: i64,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The output when it ended with 0.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] with the last lines of what it printed.
    pub fn success(self, what: &str) -> Result<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        let said = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        let said = String::from_utf8_lossy(said);
        Err(Error::infrastructure(format!("{what} ended with {}", self.code))
            .with_last_words(crate::stack::docker::objects::tail(&said, 15)))
    }
}

/// A command that is running, its streams held apart.
pub struct Running {
    /// To its standard input.
    pub input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    /// From it, as it comes.
    pub output: futures_util::stream::BoxStream<'static, Result<LogOutput, bollard::errors::Error>>,
    id: String,
}

impl Engine {
    /// Runs a command in a container and waits for it. `stdin` is given to it
    /// and then closed.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be started or watched, or printed more
    /// than a MiB; a code other than 0 is none, see [`Output::success`].
    pub async fn exec(&self, container: &str, command: &[&str], stdin: Option<&[u8]>) -> Result<Output> {
        let what = || format!("run {:?} in container {container}", command.join(" "));
        let mut running = self.start_exec(container, command, stdin.is_some()).await?;
        let feed = async {
            if let Some(bytes) = stdin {
                // A command may end without reading all of it.
                let _ = running.input.write_all(bytes).await;
                let _ = running.input.shutdown().await;
            }
            Ok(())
        };
        let collect = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(chunk) = running.output.next().await {
                let (kept, chunk) = match chunk.map_err(|error| fault(&what(), &error))? {
                    LogOutput::StdErr { message } => (&mut stderr, message),
                    other => (&mut stdout, other.into_bytes()),
                };
                kept.extend_from_slice(&chunk);
                if kept.len() > OUTPUT {
                    return Err(Error::failed(what(), format!("it printed more than {OUTPUT} bytes")));
                }
            }
            Ok::<_, Error>((stdout, stderr))
        };
        let ((), (stdout, stderr)) = tokio::try_join!(feed, collect)?;
        let state = self.docker.inspect_exec(&running.id).await.map_err(|error| fault(&what(), &error))?;
        let code =
            state.exit_code.ok_or_else(|| Error::failed(what(), "it lost its output while running"))?;
        tracing::debug!(container, ?command, code, "exec");
        Ok(Output { code, stdout, stderr })
    }

    /// Starts a command in a container, for a conversation with it.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be started.
    pub async fn start_exec(&self, container: &str, command: &[&str], stdin: bool) -> Result<Running> {
        let what = || format!("run {:?} in container {container}", command.join(" "));
        let options = CreateExecOptions {
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            ..CreateExecOptions::<String>::default()
        };
        let exec =
            self.docker.create_exec(container, options).await.map_err(|error| fault(&what(), &error))?;
        let started = self
            .docker
            .start_exec(&exec.id, Some(StartExecOptions { detach: false, tty: false, output_capacity: None }))
            .await
            .map_err(|error| fault(&what(), &error))?;
        match started {
            StartExecResults::Attached { output, input } => Ok(Running { input, output, id: exec.id }),
            StartExecResults::Detached => Err(Error::failed(what(), "the engine did not attach")),
        }
    }
}
