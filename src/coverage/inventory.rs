//! What a LAVA has, asked of its own code in its own images.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::stack::docker::Engine;
use crate::stack::images::Images;

/// Asks the dispatcher's registries (`lava_dispatcher/parser.py` imports all of them).
const DISPATCHER: &str = include_str!("dispatcher.py");
/// Asks the server's templates.
const SERVER: &str = include_str!("server.py");

/// What the dispatcher has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Dispatcher {
    /// LAVA's version.
    pub version: String,
    /// Strategies by the section of a job that they are for: `deploy`, `boot`, `test`, and what else there
    /// may come to be.
    pub strategies: BTreeMap<String, Vec<Strategy>>,
    /// What the schemas take for `to` of a deploy action and `method` of a boot action, by section.
    pub schemas: BTreeMap<String, Vec<String>>,
    /// Protocols.
    pub protocols: Vec<String>,
    /// Commands that a `command` action knows without the device's `users`.
    pub commands: Vec<String>,
    /// What LAVA looks for in a kernel's log.
    pub kernel_messages: Vec<KernelMessage>,
    /// Signals of a test shell.
    pub signals: Vec<String>,
    /// What could not be found out.
    pub problems: Vec<String>,
}

/// A strategy: a way to deploy, boot or test.
#[derive(Debug, Clone, Deserialize)]
pub struct Strategy {
    /// What it is called here: the value that asks for it, or LAVA's name of it, or its class.
    pub name: String,
    /// The class of the action that it makes; `None` where LAVA could not make it.
    #[serde(default)]
    pub class: Option<String>,
}

/// A kind of kernel message.
#[derive(Debug, Clone, Deserialize)]
pub struct KernelMessage {
    /// How its first line is known: a regular expression of Python's.
    pub start: String,
}

/// What the server has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Device-types that it has templates of.
    pub device_types: Vec<String>,
    /// By which texts a boot loader's failure is known, in any of the templates.
    pub errors: Vec<ErrorText>,
    /// What could not be found out.
    pub problems: Vec<String>,
}

/// A text of a boot loader's.
#[derive(Debug, Clone, Deserialize)]
pub struct ErrorText {
    /// The boot loader, as a device's `constants` call it.
    pub loader: String,
    /// The text: a regular expression of Python's.
    pub text: String,
}

/// Both.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// The dispatcher's side.
    pub dispatcher: Dispatcher,
    /// The server's side.
    pub server: Server,
}

impl Inventory {
    /// What the LAVA in these images has.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] where it could not be asked, or answers with something else.
    pub async fn of(engine: &Engine, images: &Images) -> Result<Self> {
        let (dispatcher, server) = tokio::try_join!(
            ask(engine, &images.worker, DISPATCHER, "ask LAVA's dispatcher what it has"),
            ask(engine, &images.server, SERVER, "ask LAVA's server what it has"),
        )?;
        Ok(Self { dispatcher, server })
    }

    /// What could not be found out.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        self.dispatcher.problems.iter().chain(&self.server.problems)
    }
}

async fn ask<T: DeserializeOwned>(engine: &Engine, image: &str, program: &str, what: &str) -> Result<T> {
    let output = engine.run_once(image, &["python3", "-c", program]).await?.success(what)?;
    parse(&output.stdout).map_err(|error| Error::failed(what, error))
}

/// The last line: what LAVA's modules print when they are imported stands before it.
fn parse<T: DeserializeOwned>(printed: &[u8]) -> std::result::Result<T, serde_json::Error> {
    let last = printed.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_prints_before_the_answer_is_left_out() {
        let printed = b"a warning\n{\"device_types\": [\"x15\"], \"later\": 1}\n";
        assert_eq!(parse::<Server>(printed).unwrap().device_types, ["x15"]);
        assert!(parse::<Server>(b"").is_err() && parse::<Server>(b"Traceback\n").is_err());
    }
}
