//! A controller beside the processor that boots: a system controller, or a core with a system of its own, on a serial port
//! of its own. It has power as long as the board is plugged in, whatever the relay does, and answers lines.

use serde::Deserialize;

use crate::console::{Console, Input};

/// A controller, in a board's file under `beside`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// What it prints before each line.
    pub prompt: String,
    /// Lines that it knows.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// What it prints for any other one; `{line}` is that.
    pub otherwise: String,
}

/// A line, and what it prints for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub line: String,
    pub print: String,
}

impl Controller {
    /// Answers on its serial port, for ever. It has started long before anybody listens, so its first prompt is not to be seen.
    pub async fn run(&self, mut console: Console) {
        let mut prompt = "";
        loop {
            match console.read_line(prompt).await {
                Input::Line(line) => console.print(&self.answer(&line)).await,
                Input::Interrupt => console.print("\n").await,
            }
            prompt = &self.prompt;
        }
    }

    fn answer(&self, line: &str) -> String {
        let line = line.trim();
        match self.answers.iter().find(|answer| answer.line == line) {
            _ if line.is_empty() => String::new(),
            Some(answer) => answer.print.clone(),
            None => self.otherwise.replace("{line}", line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_says_nothing_before_somebody_presses_enter() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let controller =
            Controller { prompt: "$ ".into(), answers: Vec::new(), otherwise: "no {line}\n".into() };
        let folder = tempfile::tempdir().unwrap();
        let ledger = crate::ledger::Ledger::open(&folder.path().join("ledger.jsonl")).unwrap();
        let (console, mut there) = Console::pipe(ledger);
        tokio::spawn(async move { controller.run(console).await });
        there.write_all(b"\nx\n").await.unwrap();
        let mut heard = [0; "\r\n$ x\r\nno x\r\n$ ".len()];
        there.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, *b"\r\n$ x\r\nno x\r\n$ ");
    }

    #[test]
    fn a_line_is_answered_as_a_whole_or_not_at_all() {
        let text = "{prompt: '$ ', answers: [{line: version, print: \"1.0\\n\"}], otherwise: \"{line}: command not found\\n\"}";
        let controller: Controller = serde_yaml::from_str(text).unwrap();
        assert_eq!(controller.answer("version"), "1.0\n");
        assert_eq!(controller.answer(" version\r"), "1.0\n");
        assert_eq!(controller.answer("versions"), "versions: command not found\n");
        assert_eq!(controller.answer(""), "");
    }
}
