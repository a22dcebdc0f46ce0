//! Fetches what the boards of a worker took down, through one long-lived
//! `ghost collect` in its container: starting a process in a container costs
//! more than all that one board has to say.

use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use meta_lava_ghost::collect::{Collected, RENEW};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::stack::docker::Engine;
use crate::stack::docker::exec::Running;

/// Most bytes of one board's state; a board that has more is an error, not a memory hog.
const LIMIT: usize = 256 << 20;

/// How long a worker may take to hand out one board's state. An engine that hangs
/// passes nothing on, and says nothing about it either.
const ANSWER: Duration = Duration::from_secs(60);

/// A line for `ghost collect`, and who waits for the answer.
type Asked = (String, oneshot::Sender<Result<Collected>>);

/// The collector of one worker.
#[derive(Debug, Clone)]
pub struct Collector {
    ask: mpsc::Sender<Asked>,
    container: String,
}

impl Collector {
    /// Starts it in `container`.
    ///
    /// # Errors
    /// When it could not be started.
    pub async fn start(engine: &Engine, container: &str) -> Result<Self> {
        let running = engine.start_exec(container, &["ghost", "collect"], true).await?;
        let (ask, asked) = mpsc::channel(64);
        tokio::spawn(serve(running, asked));
        Ok(Self { ask, container: container.to_owned() })
    }

    /// The state of `board`.
    ///
    /// # Errors
    /// When the worker is gone.
    pub async fn collect(&self, board: &str) -> Result<Collected> {
        self.ask(board, board.to_owned()).await
    }

    /// Replaces `board` by one that nothing happened to, for another job.
    ///
    /// # Errors
    /// When the worker or its ghosts are gone.
    pub async fn renew(&self, board: &str) -> Result<()> {
        match self.ask(board, format!("{RENEW}{board}")).await?.error {
            None => Ok(()),
            Some(error) => Err(Error::failed(format!("renew {board}"), error)),
        }
    }

    async fn ask(&self, board: &str, line: String) -> Result<Collected> {
        let gone = || {
            Error::failed(
                format!("collect the ledger of {board}"),
                format!("`ghost collect` in container {} has ended", self.container),
            )
        };
        let (answer, answered) = oneshot::channel();
        self.ask.send((line, answer)).await.map_err(|_| gone())?;
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(answered) => answered.map_err(|_| gone())?,
            Err(_) => Err(Error::failed(
                format!("collect the ledger of {board}"),
                format!(
                    "no answer from container {} for {} s; does the Docker engine hang?",
                    self.container,
                    ANSWER.as_secs()
                ),
            )),
        }
    }
}

async fn serve(mut running: Running, mut asked: mpsc::Receiver<Asked>) {
    let mut buffer: Vec<u8> = Vec::new();
    // Up to here the buffer has no newline.
    let mut searched = 0;
    while let Some((line, answer)) = asked.recv().await {
        if running.input.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
        let end = loop {
            if let Some(end) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                break searched + end;
            }
            searched = buffer.len();
            match running.output.next().await {
                Some(Ok(LogOutput::StdErr { message })) => {
                    tracing::warn!(message = %String::from_utf8_lossy(&message), "ghost collect");
                }
                Some(Ok(chunk)) if buffer.len() <= LIMIT => buffer.extend_from_slice(&chunk.into_bytes()),
                _ => return,
            }
        };
        let line: Vec<u8> = buffer.drain(..=end).collect();
        searched = 0;
        let collected = serde_json::from_slice(&line)
            .map_err(|error| Error::infrastructure(format!("`ghost collect` answered rubbish: {error}")));
        let _ = answer.send(collected);
    }
}
