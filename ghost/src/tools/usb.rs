//! What tools have in common that open a device on USB.

use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;

use super::Called;
use crate::control::{self, Request, Watched};
use crate::peripheral::{Action, Answer, Attached, Identity, Mode};

/// A device that a tool has opened.
pub(super) struct Device {
    pub(super) attached: Attached,
    mode: Mode,
    socket: PathBuf,
}

/// A device has gone, or its daemon has.
pub(super) struct Gone;

impl Device {
    /// What is attached of `identity` in `mode`; the call of the tool is noted with its board. Where a fault
    /// of the board's ends the call, the error is what that says.
    pub(super) fn open(called: &Called, identity: &Identity, mode: Mode) -> io::Result<Vec<Self>> {
        let request = Request::Open {
            tool: called.name.to_owned(),
            args: called.args.to_vec(),
            identity: identity.clone(),
        };
        let found: Vec<Attached> = control::get(called.socket, &request).map_err(|error| {
            let Some(fault) = control::fault(&error) else { return error };
            called.fault.set(Some(fault.exit));
            io::Error::other(fault.says.trim_end().to_owned())
        })?;
        let device = |attached| Self { attached, mode, socket: called.socket.to_owned() };
        Ok(found.into_iter().filter(|device| device.when == mode).map(device).collect())
    }

    /// Waits until a device of `identity` in `mode` is attached, however long that takes.
    pub(super) fn wait(called: &Called, identity: &Identity, mode: Mode) -> io::Result<Self> {
        let stream = control::ask(called.socket, &Request::Watch)?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            // The end of what was there already.
            if line.is_empty() {
                continue;
            }
            let Watched { change, .. } = serde_json::from_str(&line)?;
            if change.action != Action::Remove && change.device.when == mode && identity.is(&change.device) {
                return Ok(Self { attached: change.device, mode, socket: called.socket.to_owned() });
            }
        }
        Err(io::Error::other("the ghost daemon ended while a tool waited for its device"))
    }

    /// Asks the device for something.
    pub(super) fn ask(&self, command: impl Into<String>, file: Option<PathBuf>) -> Result<Answer, Gone> {
        self.ask_of(self.mode, command, file)
    }

    /// Asks what stands behind the device for something: the core that a debug probe is on.
    pub(super) fn ask_of(
        &self,
        mode: Mode,
        command: impl Into<String>,
        file: Option<PathBuf>,
    ) -> Result<Answer, Gone> {
        let request =
            Request::Usb { board: self.attached.board.clone(), mode, command: command.into(), file };
        control::get::<Option<Answer>>(&self.socket, &request).ok().flatten().ok_or(Gone)
    }
}
