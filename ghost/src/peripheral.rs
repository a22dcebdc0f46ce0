//! What a board shows its worker on USB: which devices there are, when each of them is attached,
//! and who answers a tool that opens one.
//!
//! A [`Peripheral`] is data in a board's file. The [`Bus`] of a board knows which of them are
//! attached right now, which depends on its power, on its cable and on what its firmware does.
//! A firmware that goes into a mode, such as fastboot, has it with [`Bus::enter`], and the tool's
//! requests come to it through the [`Gadget`]; once that is dropped, as at a reset, the device is gone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::board::Board;
use crate::ledger::{Event, Protocol};

/// What a board does on USB, and so what of it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Whatever it does: of a device that has power of its own, as a debug probe has.
    Always,
    /// As long as it has power.
    Powered,
    /// It is in the fastboot of its boot loader.
    Fastboot,
    /// It is in the DFU of its boot loader.
    Dfu,
    /// Its boot ROM waits for a program: a switch says so, or it has none to start.
    Recovery,
    /// Its boot loader shows its storage as a disk.
    MassStorage,
    /// What it has booted answers adb.
    Adb,
    /// Its core answers debug probes. These are devices of their own, so this is nothing that is attached.
    Debug,
}

/// A USB device that a board is, or has on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peripheral {
    #[serde(rename = "while")]
    pub when: Mode,
    /// Vendor's number, four hexadecimal digits.
    pub vendor: UsbNumber,
    /// Product's number, four hexadecimal digits.
    pub product: UsbNumber,
    /// Serial number; without one, the board's name.
    #[serde(default)]
    pub serial: Option<String>,
    /// What the device calls itself, `{serial}` being its serial number.
    #[serde(default)]
    pub name: Option<String>,
    /// The label of the file system on it, of a drive.
    #[serde(default)]
    pub volume: Option<String>,
    /// The kernel's driver of it, of a serial port.
    #[serde(default)]
    pub driver: Option<String>,
    /// What the cable is called that it is on, where that is not the board's own one. It has a port of its own.
    #[serde(default)]
    pub cable: Option<String>,
}

/// A vendor's or a product's number: four hexadecimal digits, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UsbNumber(String);

impl TryFrom<String> for UsbNumber {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 4 && text.chars().all(digits) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no number of USB's: four hexadecimal digits in lower case, in quotes"))
        }
    }
}

impl From<UsbNumber> for String {
    fn from(number: UsbNumber) -> Self {
        number.0
    }
}

impl fmt::Display for UsbNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a board's USB cable is plugged into the worker before anybody touches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cable {
    #[default]
    Plugged,
    Unplugged,
}

/// The port of the worker that a board's cable is in, as a USB path: bus, then ports through hubs
/// (`3-1.4.2`). Made of its name, so that it is the same in every run, and no two boards share one.
#[must_use]
pub fn usb_path(board: &str) -> String {
    let sum = Sha256::digest(board);
    // A hub has seven ports, and five of them may stand in a row.
    let ports: Vec<String> = sum[1..6].iter().map(|byte| (byte % 7 + 1).to_string()).collect();
    format!("{}-{}", sum[0] % 64 + 1, ports.join("."))
}

/// The port that another of a board's cables is in, which its file calls `cable`.
#[must_use]
pub fn usb_path_of(board: &str, cable: &str) -> String {
    usb_path(&format!("{board} {cable}"))
}

/// Where the worker has its disks by what they are.
pub const DISKS: &str = "/dev/disk/by-id";

/// The disk that a board's boot loader shows of its storage, in the folder `disks`: udev's name for U-Boot's.
#[must_use]
pub fn disk(disks: &Path, serial: &str) -> PathBuf {
    disks.join(format!("usb-Linux_UMS_disk_0_{serial}-0:0"))
}

/// A peripheral as somebody looks for it: what is given must be equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    pub serial: Option<String>,
    pub vendor: Option<String>,
    pub product: Option<String>,
    /// See [`usb_path`].
    pub path: Option<String>,
    /// Where the worker has it, of a disk or a drive.
    pub disk: Option<String>,
}

impl Identity {
    /// Of a serial number.
    #[must_use]
    pub fn serial(serial: &str) -> Self {
        Self { serial: Some(serial.to_owned()), ..Self::default() }
    }

    /// Whether it names one board's device and no other's: numbers of vendor and product are those
    /// of a whole make.
    #[must_use]
    pub fn is_of_one(&self) -> bool {
        self.serial.is_some() || self.path.is_some() || self.disk.is_some()
    }

    /// Whether `device` is what is looked for.
    #[must_use]
    pub fn is(&self, device: &Attached) -> bool {
        let same = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        same(&self.serial, &device.serial)
            && same(&self.vendor, &device.vendor.0)
            && same(&self.product, &device.product.0)
            && same(&self.path, &device.path)
            && self.disk.as_ref().is_none_or(|disk| device.disks().contains(disk))
    }
}

/// A device as the worker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its board.
    pub board: String,
    #[serde(rename = "while")]
    pub when: Mode,
    pub vendor: UsbNumber,
    pub product: UsbNumber,
    pub serial: String,
    /// See [`Peripheral::name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`usb_path`].
    pub path: String,
    /// See [`Peripheral::volume`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// See [`Peripheral::driver`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl Attached {
    /// Whether it is a drive that a board starts from, and no probe's.
    fn is_card(&self) -> bool {
        self.when == Mode::Powered || self.when == Mode::MassStorage && self.volume.is_some()
    }

    /// Where the worker has it as a disk or a drive: udev's links.
    fn disks(&self) -> Vec<String> {
        let serial = &self.serial;
        match &self.volume {
            // DAPLink says that it is made by MBED, and is a VFS.
            Some(label) => {
                vec![format!("{DISKS}/usb-MBED_VFS_{serial}-0:0"), format!("/dev/disk/by-label/{label}")]
            }
            None if self.when == Mode::MassStorage => {
                vec![disk(Path::new(DISKS), serial).display().to_string()]
            }
            None => Vec::new(),
        }
    }
}

/// What became of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was there when somebody began to watch.
    Present,
    /// It came.
    Add,
    /// It went.
    Remove,
    /// What is in it is another than before.
    Change,
}

/// Something that happened to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub action: Action,
    pub device: Attached,
}

/// A file that a tool sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Where it is on the worker.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Data {
    /// What the ledger says when a board puts it to `place`.
    #[must_use]
    pub fn arrived(&self, place: &str) -> Event {
        Event::file(Protocol::Usb, &self.path.display().to_string(), place, &self.bytes)
    }
}

/// A tool's request to what it has opened, in the words of the mode's protocol.
#[derive(Debug)]
pub struct Call {
    pub command: String,
    pub data: Option<Data>,
    reply: oneshot::Sender<Answer>,
}

impl Call {
    /// Answers; the tool may have gone.
    pub fn answer(self, answer: Answer) {
        let _ = self.reply.send(answer);
    }
}

/// What a device says to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Lines that it says meanwhile.
    pub info: Vec<String>,
    /// What it says at the end; an error is its refusal.
    pub result: Result<String, String>,
}

impl Answer {
    /// It did as asked.
    #[must_use]
    pub fn okay(text: impl Into<String>) -> Self {
        Self { info: Vec::new(), result: Ok(text.into()) }
    }

    /// It refused.
    #[must_use]
    pub fn fail(text: impl Into<String>) -> Self {
        Self { info: Vec::new(), result: Err(text.into()) }
    }
}

/// A disk that a board shows, as the bus knows it.
pub trait Shown: Send + Sync {
    /// Has the board take over what was written to it so far; two who ask do so one behind the other.
    fn take_over(&self);
}

/// What a controller on a board has the boot ROM read in place of the board's switch. It has power of its own, and keeps it
/// when the board has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Whether it is what counts.
    pub enabled: bool,
    /// The boot mode, by the name that its tool has for it; nothing was set before.
    pub mode: Option<String>,
}

/// The boot mode in which a boot ROM waits for a program by USB.
const BY_USB: &str = "usb";

#[derive(Default)]
struct State {
    /// The disk that it shows.
    disk: Option<Arc<dyn Shown>>,
    powered: bool,
    /// Whether a switch has its boot ROM wait for a program.
    recovery: bool,
    /// What a controller on it says in the switch's place.
    remote: Remote,
    /// Whether its boot ROM has refused a program, and taken none since.
    refused: bool,
    unplugged: bool,
    /// Whether its drive went and came again, and nobody has mounted it since.
    remounted: bool,
    /// Who answers in each mode that the firmware is in.
    modes: BTreeMap<Mode, mpsc::Sender<Call>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("powered", &self.powered)
            .field("modes", &self.modes)
            .finish_non_exhaustive()
    }
}

/// The USB side of one board. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    devices: Arc<[Attached]>,
    cable: Cable,
    state: Arc<Mutex<State>>,
    /// Whether a tool has sent the board on its way, and it has not arrived.
    leaving: watch::Sender<bool>,
    changes: broadcast::Sender<Change>,
}

impl Bus {
    /// Of `board`; what comes and goes is told to `changes`.
    #[must_use]
    pub fn new(board: &Board, changes: broadcast::Sender<Change>) -> Self {
        let name = board.name.as_str();
        let devices = board.peripherals.iter().map(|peripheral| {
            let serial = peripheral.serial.clone().unwrap_or_else(|| name.to_owned());
            Attached {
                board: name.to_owned(),
                when: peripheral.when,
                vendor: peripheral.vendor.clone(),
                product: peripheral.product.clone(),
                name: peripheral.name.as_ref().map(|name| name.replace("{serial}", &serial)),
                serial,
                path: match &peripheral.cable {
                    None => usb_path(name),
                    Some(cable) => usb_path_of(name, cable),
                },
                volume: peripheral.volume.clone(),
                driver: peripheral.driver.clone(),
            }
        });
        let bus = Self {
            devices: devices.collect(),
            cable: board.cable,
            state: Arc::default(),
            leaving: watch::Sender::new(false),
            changes,
        };
        bus.renew();
        bus
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The board shows `disk` from now on, or none.
    pub fn show(&self, disk: Option<Arc<dyn Shown>>) {
        self.lock().disk = disk;
    }

    /// The disk that it shows.
    #[must_use]
    pub fn disk(&self) -> Option<Arc<dyn Shown>> {
        self.lock().disk.clone()
    }

    /// Changes the state, and tells of what came and went by it.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let there = |state: &State| -> Vec<bool> {
            self.devices.iter().map(|device| is_attached(state, device.when)).collect()
        };
        let before = there(&state);
        change(&mut state);
        for ((device, was), is) in self.devices.iter().zip(before).zip(there(&state)) {
            let action = match (was, is) {
                (false, true) => Action::Add,
                (true, false) => Action::Remove,
                _ => continue,
            };
            // Nobody may be watching.
            let _ = self.changes.send(Change { action, device: device.clone() });
        }
    }

    /// The board is switched on, or off.
    pub fn power(&self, powered: bool) {
        self.change(|state| state.powered = powered);
    }

    /// The cable is plugged in, or pulled.
    pub fn plug(&self, plugged: bool) {
        self.change(|state| state.unplugged = !plugged);
    }

    /// Whether the cable is plugged in.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        !self.lock().unplugged
    }

    /// The switch is set that has the boot ROM wait for a program.
    pub fn switch(&self, recovery: bool) {
        self.change(|state| state.recovery = recovery);
    }

    /// Whether the boot ROM is to wait for a program.
    #[must_use]
    pub fn is_in_recovery(&self) -> bool {
        let state = self.lock();
        match &state.remote {
            Remote { enabled: true, mode: Some(mode) } => mode == BY_USB,
            _ => state.recovery,
        }
    }

    /// A controller says something else from now on; the boot ROM reads it at the next reset.
    pub fn control(&self, remote: Remote) {
        self.change(|state| state.remote = remote);
    }

    /// What a controller says.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.lock().remote.clone()
    }

    /// Whether the board has power.
    #[must_use]
    pub fn is_powered(&self) -> bool {
        self.lock().powered
    }

    /// Its boot ROM has taken a program, or refused it.
    pub fn loaded(&self, refused: bool) {
        self.lock().refused = refused;
    }

    /// Whether its boot ROM has refused a program, and taken none since; from then on that is forgotten.
    #[must_use]
    pub fn take_refusal(&self) -> bool {
        std::mem::take(&mut self.lock().refused)
    }

    /// Cable, switch and controller are as they were before anybody touched it.
    pub fn renew(&self) {
        self.loaded(false);
        self.control(Remote::default());
        self.mounted();
        self.plug(self.cable == Cable::Plugged);
        self.switch(false);
    }

    /// Its drive went and came again, as its probe does once it has programmed what was copied there.
    pub fn remounted(&self) {
        self.lock().remounted = true;
        for device in self.changed() {
            let _ = self.changes.send(Change { action: Action::Change, device });
        }
    }

    /// Its drive is mounted.
    pub fn mounted(&self) {
        self.lock().remounted = false;
    }

    /// The drives that have come again and were not mounted since. Whoever begins to watch is told of these: whether the probe is done
    /// before LAVA listens would be left to chance.
    #[must_use]
    pub fn changed(&self) -> Vec<Attached> {
        let is = self.lock().remounted;
        self.attached().into_iter().filter(|device| is && device.volume.is_some()).collect()
    }

    /// Whether the board is one that `identity` looks for, attached or not.
    #[must_use]
    pub fn has(&self, identity: &Identity) -> bool {
        self.devices.iter().any(|device| identity.is(device))
    }

    /// Where the worker has its drives, attached or not.
    #[must_use]
    pub fn drives(&self) -> Vec<String> {
        self.devices.iter().filter(|device| device.volume.is_some()).flat_map(Attached::disks).collect()
    }

    /// What is attached.
    #[must_use]
    pub fn attached(&self) -> Vec<Attached> {
        let state = self.lock();
        self.devices.iter().filter(|device| is_attached(&state, device.when)).cloned().collect()
    }

    /// Whether the board has a device that is attached in `mode`.
    #[must_use]
    pub fn knows(&self, mode: Mode) -> bool {
        self.devices.iter().any(|device| device.when == mode)
    }

    /// The board is where it stays until somebody does something.
    pub fn arrives(&self) {
        self.leaving.send_replace(false);
    }

    /// Waits until the board has arrived. A lab's relay takes longer than that; without it, whether a
    /// command that follows a tool comes before the kernel or behind it would be left to chance.
    pub async fn arrived(&self) {
        // The sender is here.
        let _ = self.leaving.subscribe().wait_for(|leaving| !leaving).await;
    }

    /// The board goes into `mode` until what is returned is dropped.
    #[must_use]
    pub fn enter(&self, mode: Mode) -> Gadget {
        self.arrives();
        let (sender, calls) = mpsc::channel(1);
        self.change(|state| drop(state.modes.insert(mode, sender)));
        Gadget { bus: self.clone(), mode, calls }
    }

    /// Hands a tool's request to what answers in `mode`; nothing when nobody does, or stopped to
    /// before it answered.
    pub async fn call(&self, mode: Mode, command: String, data: Option<Data>) -> Option<Answer> {
        let calls = {
            let state = self.lock();
            // A core is behind a probe, any of those that the board has; else the device is the mode.
            let leads_there = |device: &Attached| match mode {
                Mode::Debug => matches!(device.when, Mode::Always | Mode::Powered),
                mode => device.when == mode,
            };
            let there =
                self.devices.iter().any(|device| leads_there(device) && is_attached(&state, device.when));
            if there { state.modes.get(&mode).cloned() } else { None }
        }?;
        let (reply, answer) = oneshot::channel();
        calls.send(Call { command, data, reply }).await.ok()?;
        answer.await.ok()
    }
}

fn is_attached(state: &State, when: Mode) -> bool {
    match when {
        Mode::Always => true,
        Mode::Powered => state.powered,
        mode => state.modes.contains_key(&mode) && !state.unplugged,
    }
}

/// A mode that a board is in, and the requests that come to it.
#[derive(Debug)]
pub struct Gadget {
    bus: Bus,
    mode: Mode,
    calls: mpsc::Receiver<Call>,
}

impl Gadget {
    /// The next request.
    pub async fn next(&mut self) -> Call {
        match self.calls.recv().await {
            Some(call) => call,
            // The board went into the mode once more; this one has nothing to say any more.
            None => std::future::pending().await,
        }
    }

    /// Answers `call`, by which the board has started something. The device is off the bus before the tool
    /// hears of it, so that who looks next finds none that is about to go; the board arrives later.
    pub fn leave(self, call: Call, answer: Answer) {
        let bus = self.bus.clone();
        drop(self);
        bus.leaving.send_replace(true);
        call.answer(answer);
    }
}

impl Drop for Gadget {
    fn drop(&mut self) {
        self.bus.change(|state| drop(state.modes.remove(&self.mode)));
    }
}

/// What udev would say of a device: its properties by name, but for `ACTION`.
#[must_use]
pub fn udev_properties(device: &Attached) -> BTreeMap<&'static str, String> {
    let (vendor, product, serial) = (&device.vendor, &device.product, &device.serial);
    let (bus, _) = device.path.split_once('-').unwrap_or(("1", ""));
    // A device's number within its bus; the kernel counts them, and nobody may count on it.
    let number = Sha256::digest(&device.path)[0] % 127 + 1;
    let bus: u8 = bus.parse().unwrap_or(1);
    let mut properties = BTreeMap::from([
        ("SUBSYSTEM", "usb".to_owned()),
        ("DEVTYPE", "usb_device".to_owned()),
        ("DEVPATH", format!("/devices/pci0000:00/0000:00:14.0/usb{bus}/{}", device.path)),
        ("DEVNAME", format!("/dev/bus/usb/{bus:03}/{number:03}")),
        ("BUSNUM", format!("{bus:03}")),
        ("DEVNUM", format!("{number:03}")),
        ("ID_BUS", "usb".to_owned()),
        ("ID_VENDOR_ID", vendor.to_string()),
        ("ID_MODEL_ID", product.to_string()),
        ("ID_SERIAL_SHORT", serial.clone()),
        ("ID_SERIAL", format!("{vendor}_{product}_{serial}")),
    ]);
    if let Some(name) = &device.name {
        properties.insert("ID_MODEL", name.replace(' ', "_"));
    }
    let disks = device.disks();
    if let Some(disk) = disks.first() {
        let path = format!("{}/block", properties["DEVPATH"]);
        properties.extend([
            ("SUBSYSTEM", "block".to_owned()),
            // A card has partitions, and what else is here has none.
            ("DEVTYPE", if device.is_card() { "partition" } else { "disk" }.to_owned()),
            ("DEVPATH", path),
            // There is no other node, see `firmware/uboot/ums.rs` and `daplink.rs`.
            ("DEVNAME", disk.clone()),
            ("DEVLINKS", disks.join(" ")),
        ]);
    }
    if let Some(driver) = &device.driver {
        let path = format!("{}/tty", properties["DEVPATH"]);
        properties.remove("DEVTYPE");
        properties.extend([
            ("SUBSYSTEM", "tty".to_owned()),
            ("DEVPATH", path),
            ("DEVNAME", format!("/dev/ttyACM{number}")),
            ("ID_USB_DRIVER", driver.clone()),
        ]);
    }
    if let Some(label) = &device.volume {
        properties.extend([
            ("ID_FS_TYPE", "vfat".to_owned()),
            ("ID_FS_VERSION", "FAT16".to_owned()),
            ("ID_FS_LABEL", label.clone()),
        ]);
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus() -> (Bus, broadcast::Receiver<Change>) {
        let text = "
model: x
firmware: {kind: minimal}
peripherals:
- {while: fastboot, vendor: 18d1, product: d00d}
- {while: powered, vendor: '0403', product: '6001', serial: FT1}
- {while: always, vendor: 0d28, product: '0204', serial: probe}
";
        let (board, _) = crate::firmware::load("b-01", text).unwrap();
        let (changes, watch) = broadcast::channel(16);
        (Bus::new(&board, changes), watch)
    }

    fn serials(bus: &Bus) -> Vec<String> {
        bus.attached().into_iter().map(|device| device.serial).collect()
    }

    #[test]
    fn what_is_attached_depends_on_power_cable_and_mode() {
        let (bus, mut watch) = bus();
        assert_eq!(serials(&bus), ["probe"]);
        bus.power(true);
        assert_eq!(serials(&bus), ["FT1", "probe"]);
        let gadget = bus.enter(Mode::Fastboot);
        assert_eq!(serials(&bus), ["b-01", "FT1", "probe"]);
        bus.plug(false);
        assert_eq!(serials(&bus), ["FT1", "probe"]);
        bus.plug(true);
        drop(gadget);
        bus.power(false);
        assert_eq!(serials(&bus), ["probe"]);
        let mut told = Vec::new();
        while let Ok(Change { action, device }) = watch.try_recv() {
            told.push((action, device.serial));
        }
        let expected = [
            (Action::Add, "FT1"),
            (Action::Add, "b-01"),
            (Action::Remove, "b-01"),
            (Action::Add, "b-01"),
            (Action::Remove, "b-01"),
            (Action::Remove, "FT1"),
        ];
        assert_eq!(told, expected.map(|(action, serial)| (action, serial.to_owned())));
    }

    #[test]
    fn a_controller_counts_in_place_of_the_switch_once_it_is_enabled() {
        let (bus, _watch) = bus();
        let says = |enabled, mode: &str| bus.control(Remote { enabled, mode: Some(mode.to_owned()) });
        says(false, "usb");
        assert!(!bus.is_in_recovery());
        says(true, "usb");
        assert!(bus.is_in_recovery());
        bus.switch(true);
        says(true, "sd");
        assert!(!bus.is_in_recovery());
        bus.control(Remote { enabled: true, mode: None });
        assert!(bus.is_in_recovery());
        bus.renew();
        assert!(!bus.is_in_recovery() && bus.remote() == Remote::default());
    }

    #[tokio::test]
    async fn only_the_mode_that_a_board_is_in_answers() {
        let (bus, _watch) = bus();
        assert_eq!(bus.call(Mode::Fastboot, "getvar:version".into(), None).await, None);
        let mut gadget = bus.enter(Mode::Fastboot);
        let (answer, ()) = tokio::join!(bus.call(Mode::Fastboot, "getvar:version".into(), None), async {
            let call = gadget.next().await;
            assert_eq!(call.command, "getvar:version");
            call.answer(Answer::okay("0.4"));
        });
        assert_eq!(answer, Some(Answer::okay("0.4")));
        // Reset in the middle of a request.
        let (answer, ()) = tokio::join!(bus.call(Mode::Fastboot, "flash:boot".into(), None), async move {
            let _call = gadget.next().await;
        });
        assert_eq!(answer, None);
    }

    #[tokio::test]
    async fn nobody_answers_through_a_cable_that_is_pulled_until_the_board_is_renewed() {
        let (bus, _watch) = bus();
        let _gadget = bus.enter(Mode::Fastboot);
        bus.plug(false);
        assert_eq!(bus.call(Mode::Fastboot, "getvar:version".into(), None).await, None);
        bus.renew();
        assert!(bus.is_plugged());
    }

    #[test]
    fn a_device_is_known_by_all_that_is_asked_for() {
        let (bus, _watch) = bus();
        let probe = &bus.attached()[0];
        let vendor = Identity { vendor: Some("0d28".into()), ..Identity::default() };
        assert!(vendor.is(probe) && !vendor.is_of_one());
        assert!(Identity::serial("probe").is(probe) && Identity::serial("probe").is_of_one());
        assert!(!Identity { vendor: Some("18d1".into()), ..Identity::serial("probe") }.is(probe));
        assert!(bus.has(&Identity::serial("b-01")), "though it is not attached");
        assert!(!bus.has(&Identity::serial("b-02")));
    }

    #[test]
    fn udev_knows_a_device_by_what_lava_looks_for() {
        let (bus, _watch) = bus();
        let found = udev_properties(&bus.attached()[0]);
        assert_eq!(found["ID_SERIAL_SHORT"], "probe");
        assert_eq!((found["ID_VENDOR_ID"].as_str(), found["ID_MODEL_ID"].as_str()), ("0d28", "0204"));
    }

    #[test]
    fn a_drive_that_has_come_again_is_told_of_until_it_is_mounted() {
        let text = "
model: x
firmware: {kind: minimal}
peripherals:
- {while: always, vendor: 0d28, product: '0204', volume: MUSCA_B}
- {while: always, vendor: 0d28, product: '0204', driver: cdc_acm}
";
        let (board, _) = crate::firmware::load("b-01", text).unwrap();
        let (changes, mut watch) = broadcast::channel(16);
        let bus = Bus::new(&board, changes);
        assert_eq!(bus.changed(), []);
        bus.remounted();
        let told = watch.try_recv().unwrap();
        assert_eq!((told.action, told.device.volume.as_deref()), (Action::Change, Some("MUSCA_B")));
        assert!(watch.try_recv().is_err(), "nothing has become of the serial port");
        assert_eq!(bus.changed().len(), 1);
        bus.mounted();
        assert_eq!(bus.changed(), []);
        let port = udev_properties(&bus.attached()[1]);
        assert_eq!((port["SUBSYSTEM"].as_str(), port["ID_USB_DRIVER"].as_str()), ("tty", "cdc_acm"));
    }

    #[test]
    fn a_path_is_the_boards_own_and_the_same_each_time() {
        assert_eq!(usb_path("b-01"), usb_path("b-01"));
        assert_ne!(usb_path("b-01"), usb_path("b-02"));
        assert_eq!(usb_path("b-01").split(['-', '.']).count(), 6);
        assert_ne!(usb_path_of("b-01", "debug"), usb_path("b-01"));
    }

    #[test]
    fn a_number_of_usb_has_four_digits() {
        for wrong in ["18D1", "8d1", "0x18d1", ""] {
            assert!(UsbNumber::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
