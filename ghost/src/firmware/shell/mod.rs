//! The command line that boot loaders have: a prompt, lines of commands with `;`, `&&` and
//! `||` between them, and a table of the commands that there are.
//!
//! A firmware brings its table of [`Command`]s, its variables and its texts. What differs
//! beyond that (U-Boot takes abbreviations, barebox has assignments, iPXE splits words before
//! it expands them) is in the firmware's own file, which overrides what [`Shell`] does.

use std::pin::Pin;

use async_trait::async_trait;

use self::words::{Joint, Statement, SyntaxError};
use super::{Flow, Next};
use crate::console::Input;
use crate::machine::Machine;

pub mod words;

/// What a handler of a command gives: how the command ended, in the shell's own terms.
pub type Work<'s, T> = Pin<Box<dyn Future<Output = Flow<T>> + Send + 's>>;

/// A command: its name, and what runs it. That is a function of the firmware's shell, of the
/// name as it was typed, and of the arguments; it returns [`Work`].
pub type Command<Run> = (&'static str, Run);

/// What a handler returns that ends in no other way than with an outcome.
pub fn work<'s, T: Send>(outcome: impl Future<Output = T> + Send + 's) -> Work<'s, T> {
    Box::pin(async move { Ok(outcome.await) })
}

/// What a handler returns that ends the firmware.
pub fn ends<'s, T: Send + 's>(next: Next) -> Work<'s, T> {
    Box::pin(std::future::ready(Err(next)))
}

/// What a handler returns that has nothing to wait for.
pub fn done<'s, T: Send + 's>(outcome: T) -> Work<'s, T> {
    Box::pin(std::future::ready(Ok(outcome)))
}

/// The command of this name.
pub fn find<'t, Run>(table: &'t [Command<Run>], name: &str) -> Option<&'t Command<Run>> {
    table.iter().find(|(known, _)| *known == name)
}

/// The command of this name, or the only one that begins so, among those that `has` allows.
pub fn find_abbreviated<'t, Run>(
    table: &'t [Command<Run>],
    name: &str,
    has: impl Fn(&str) -> bool,
) -> Option<&'t Command<Run>> {
    let begun = table.iter().filter(|(known, _)| has(known) && known.starts_with(name));
    begun.clone().find(|(known, _)| *known == name).or_else(|| {
        let mut begun = begun;
        match (begun.next(), begun.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    })
}

/// A firmware's command line between reset and boot.
#[async_trait]
pub trait Shell: Send {
    /// What is printed for a `^C` at the prompt.
    const INTERRUPTED: &'static str = "<INTERRUPT>\n";

    /// What it runs on.
    fn machine(&mut self) -> &mut Machine;

    /// The prompt, with its blank.
    fn prompt(&self) -> String;

    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// Says that a line can't be taken apart.
    async fn syntax_error(&mut self, error: SyntaxError);

    /// Runs one command, `words` being its name and its arguments; whether it succeeded. There
    /// is at least a name, unless variables without a value were all that was typed.
    async fn command(&mut self, words: &[&str]) -> Flow<bool>;

    /// Takes a line apart.
    fn parse(&self, line: &str) -> Result<Vec<Statement>, SyntaxError> {
        words::parse(line)
    }

    /// The words of a statement, variables replaced.
    fn expand(&self, statement: &Statement) -> Vec<String> {
        statement.expand(|name| self.variable(name))
    }

    /// Whether the rest of a line is not to be run.
    fn skips_rest(&self) -> bool {
        false
    }

    /// Whether the last line ended the shell; asked once after each line.
    fn left(&mut self) -> bool {
        false
    }

    async fn print<T: AsRef<str> + Send>(&mut self, text: T) {
        self.machine().console().print(text.as_ref()).await;
    }

    /// Runs a line; whether its last command succeeded. One that is skipped changes nothing.
    async fn line(&mut self, line: &str) -> Flow<bool> {
        let statements = match self.parse(line) {
            Ok(statements) => statements,
            Err(error) => {
                self.syntax_error(error).await;
                return Ok(false);
            }
        };
        let mut ok = true;
        let mut joint = Joint::Always;
        for statement in &statements {
            let wanted = match joint {
                Joint::Always => true,
                Joint::And => ok,
                Joint::Or => !ok,
            };
            joint = statement.joint;
            if wanted {
                let words = self.expand(statement);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                ok = self.command(&words).await?;
                if self.skips_rest() {
                    break;
                }
            }
        }
        Ok(ok)
    }

    /// Prompts for lines and runs them, until the shell is left.
    async fn serve(&mut self) -> Flow<()> {
        loop {
            let prompt = self.prompt();
            match self.machine().console().read_line(&prompt).await {
                Input::Interrupt => self.print(Self::INTERRUPTED).await,
                Input::Line(line) => {
                    self.line(&line).await?;
                    if self.left() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Command<()>] =
        &[("boot", ()), ("bootm", ()), ("bootz", ()), ("dhcp", ()), ("printenv", ())];

    #[test]
    fn a_name_must_be_whole_where_abbreviations_are_not_known() {
        assert_eq!(find(TABLE, "dhcp"), Some(&("dhcp", ())));
        assert_eq!(find(TABLE, "dhc"), None);
    }

    #[test]
    fn an_abbreviation_names_the_only_command_that_begins_so() {
        let found = |name| find_abbreviated(TABLE, name, |name| name != "bootz").map(|(name, ())| *name);
        assert_eq!(found("boot"), Some("boot"));
        assert_eq!(found("bootm"), Some("bootm"));
        assert_eq!(found("print"), Some("printenv"));
        assert_eq!(found("b"), None);
        assert_eq!(found("bootz"), None);
        assert_eq!(found("x"), None);
    }
}
