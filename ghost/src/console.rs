//! A serial port of a board, on TCP with telnet.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Stage;

/// One serial port. What is printed while nobody listens is lost, as on a real line.
pub struct Console {
    inner: Arc<Inner>,
}
struct Inner;

/// How a line of input ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A whole line, without its end.
    Line(String),
    /// `^C`: the line was abandoned.
    Interrupt,
}

impl Console {
    /// Notes what the board is running, for the ledger.
    pub fn set_stage(&self, stage: Stage) {
        let _ = (&self.inner, stage);
    }

    /// Prints text; `\n` goes out as `\r\n`. Waits when the reader is slow.
    pub async fn print(&mut self, text: &str) {
        let _ = text;
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// The next bytes that came in, as many as are there (at least one). Not line
    /// edited, not echoed. The ledger has their lines.
    pub async fn recv(&mut self) -> Vec<u8> {
        std::future::pending().await
    }

    /// The next key, if one comes within `wait`. Noted as a key, not as a line.
    pub async fn key(&mut self, wait: Duration) -> Option<u8> {
        let _ = wait;
        None
    }

    /// Prints `prompt` and reads a line with echo and the editing that every
    /// firmware has (backspace, ^U, ^C).
    pub async fn read_line(&mut self, prompt: &str) -> Input {
        let _ = prompt;
        std::future::pending().await
    }
}
