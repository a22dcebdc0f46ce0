//! What tools have in common that open a device on USB.

use std::io;
use std::path::{Path, PathBuf};

use super::Called;
use crate::control::{self, Request, Sent, Watched};
use crate::engine;
use crate::peripheral::{Action, Answer, Attached, Identity, Mode, udev_properties};

/// A device that a tool has opened.
pub(super) struct Device {
    pub(super) attached: Attached,
    mode: Mode,
    socket: PathBuf,
}

/// Whether a device can be opened from here. In a container that takes its node, as in libusb (`linux_usbfs.c`), and it has
/// that when somebody has shared it; on the worker itself no board has a node.
fn is_seen(device: &Attached) -> bool {
    let node = udev_properties(device).remove("DEVNAME");
    !Path::new(engine::MARK).exists() || node.is_some_and(|node| Path::new(&node).exists())
}

/// A device has gone, or its daemon has.
pub(super) struct Gone;

impl Device {
    /// What is attached of `identity` in `mode`; the call of the tool is noted with its board. Where a fault
    /// of the board's ends the call, the error is what that says.
    pub(super) fn open(called: &Called, identity: &Identity, mode: Mode) -> io::Result<Vec<Self>> {
        let found = Self::noted(called, identity, false)?;
        Ok(found.into_iter().filter(|device| device.when == mode).map(|it| Self::found(called, it)).collect())
    }

    /// A device that a tool has found by itself.
    pub(super) fn found(called: &Called, attached: Attached) -> Self {
        Self { mode: attached.when, attached, socket: called.socket.to_owned() }
    }

    /// Notes the call of the tool with the board of `identity`, as [`Self::open`] does, but for LAVA's
    /// connection, which comes later; what is attached of it, in whatever mode.
    pub(super) fn note(called: &Called, identity: &Identity) -> io::Result<Vec<Attached>> {
        Self::noted(called, identity, true)
    }

    /// The same where LAVA has begun its connection before: who is about to listen is waited for.
    pub(super) fn heard(called: &Called, identity: &Identity) -> io::Result<Vec<Attached>> {
        Self::noted(called, identity, false)
    }

    fn noted(called: &Called, identity: &Identity, unheard: bool) -> io::Result<Vec<Attached>> {
        let request = Request::Open {
            tool: called.name.to_owned(),
            args: called.args.to_vec(),
            identity: identity.clone(),
            unheard,
        };
        let found: Vec<Attached> = called.note(&request)?;
        Ok(found.into_iter().filter(is_seen).collect())
    }

    /// Waits until a device of `identity` in `mode` is attached, however long that takes.
    pub(super) fn wait(called: &Called, identity: &Identity, mode: Mode) -> io::Result<Self> {
        for told in control::watched(control::ask(called.socket, &Request::Watch)?) {
            let Some(Watched { change, .. }) = told? else { continue };
            let is_it = change.device.when == mode && identity.is(&change.device) && is_seen(&change.device);
            if change.action != Action::Remove && is_it {
                return Ok(Self::found(called, change.device));
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
        self.request(mode, command.into(), file.map(Sent::File))
    }

    /// The same with `bytes` that are in no file, and came `from` somebody.
    pub(super) fn send_to(
        &self,
        mode: Mode,
        command: impl Into<String>,
        from: &str,
        bytes: &[u8],
    ) -> Result<Answer, Gone> {
        self.request(mode, command.into(), Some(Sent::bytes(from, bytes)))
    }

    fn request(&self, mode: Mode, command: String, sent: Option<Sent>) -> Result<Answer, Gone> {
        let request = Request::Usb { board: self.attached.board.clone(), mode, command, sent };
        control::get::<Option<Answer>>(&self.socket, &request).ok().flatten().ok_or(Gone)
    }
}
