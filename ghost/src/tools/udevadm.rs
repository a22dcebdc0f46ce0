//! `udevadm trigger`: what comes of it on a worker where LAVA's own `lava-dispatcher-host` is installed.
//!
//! LAVA has udev tell of a device once more (`trigger_share_device_with_container` in `lava_dispatcher/utils/containers.py`).
//! `lava-dispatcher-host`'s rule then runs `lava-dispatcher-host devices share`, which looks the device up in the mappings that
//! the job has written (`lava_common/device_mappings.py`), allows the container's control group the device, by BPF or in sysfs, and
//! makes the node in the container by `docker exec` (`lava_dispatcher_host/utils.py`). A board of the ghosts' has no node that the
//! kernel knows and no container here has a control group of its own, so both programs stop at their first step; this
//! does what is left of it. What stands in the container is an empty file by the node's name: tools of the ghosts look for that
//! ([`super::usb`]). Messages are those of systemd 252.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::caller;
use super::{Called, Tool};
use crate::control::{self, Request, Watched};
use crate::engine::{Ask, Begun, Failed};
use crate::linux::sandbox::{self, Entered};

/// The tool.
pub const TOOL: Tool = Tool { names: &["udevadm"], run };

/// Where LAVA's jobs keep their files (`DISPATCHER_DOWNLOAD_DIR` in `lava_common/constants.py`).
const JOBS: &str = "/var/lib/lava/dispatcher/tmp";

/// A device that a job shares with a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Mapping {
    device_info: Info,
    container: String,
}

/// What a device is known by there; what is empty or missing says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Info {
    serial_number: Option<String>,
    usb_vendor_id: Option<String>,
    usb_product_id: Option<String>,
    fs_label: Option<String>,
}

impl Info {
    /// Whether the device with these properties is meant (`match_mapping` in `lava_dispatcher_host/utils.py`).
    fn is(&self, device: &Watched) -> bool {
        let property = |name: &str| device.properties.get(name).map(String::as_str);
        let same = |asked: &Option<String>, name| {
            asked
                .as_deref()
                .filter(|asked| !asked.is_empty())
                .is_none_or(|asked| property(name) == Some(asked))
        };
        same(&self.serial_number, "ID_SERIAL_SHORT")
            && same(&self.usb_vendor_id, "ID_VENDOR_ID")
            && same(&self.usb_product_id, "ID_MODEL_ID")
            && same(&self.fs_label, "ID_FS_LABEL")
    }
}

fn run(called: Called) -> Result<u8, String> {
    let board = caller::board(&called).map_err(|error| error.to_string())?;
    let words: Vec<&str> = called.args.iter().map(String::as_str).collect();
    let node = match words.as_slice() {
        ["trigger", "--action=add", node] => *node,
        ["trigger", ..] => return Err("only udevadm trigger --action=add DEVICE is played".into()),
        [verb, ..] if !verb.starts_with('-') && !KNOWN.contains(verb) => {
            let _ = writeln!(called.err, "Unknown command verb {verb}.");
            return Ok(1);
        }
        _ => return Err(format!("udevadm {} is not played", words.join(" "))),
    };
    let devices: Vec<Watched> = control::present(called.socket).map_err(|error| error.to_string())?;
    let is_it = |device: &&Watched| device.properties.get("DEVNAME").map(String::as_str) == Some(node);
    let Some(device) = devices.iter().find(is_it) else {
        let _ = writeln!(called.err, "Failed to open the device '{node}': No such device");
        return Ok(1);
    };
    // That nobody wants it is no mistake of who triggers.
    let mapping = mappings(Path::new(JOBS)).into_iter().find(|mapping| mapping.device_info.is(device));
    if let (Some(mapping), Some(board)) = (mapping, board) {
        share(called.socket, &board, &mapping.container, node);
    }
    Ok(0)
}

/// Verbs of udevadm's that are not played.
const KNOWN: &[&str] =
    &["info", "settle", "control", "monitor", "test", "test-builtin", "verify", "wait", "lock"];

/// All mappings of all jobs.
fn mappings(jobs: &Path) -> Vec<Mapping> {
    let Ok(jobs) = fs::read_dir(jobs) else { return Vec::new() };
    let texts = jobs.flatten().filter_map(|job| fs::read_to_string(job.path().join("usbmap.yaml")).ok());
    texts.flat_map(|text| serde_yaml::from_str::<Vec<Mapping>>(&text).unwrap_or_default()).collect()
}

/// Makes the node in a container; that this fails is nobody's concern, as in `lava-dispatcher-host`.
fn share(socket: &Path, board: &str, container: &str, node: &str) {
    let request = Request::Engine { board: board.to_owned(), ask: Ask::Enter { name: container.to_owned() } };
    let Ok(Ok(begun)) = control::get::<Result<Begun, Failed>>(socket, &request) else { return };
    let mut program = begun.program;
    (program.uid, program.gid) = (0, 0);
    let folder = Path::new(node).parent().unwrap_or(Path::new("/")).display();
    program.words = ["sh", "-c", &format!("mkdir -p {folder} && : > {node}")].map(str::to_owned).to_vec();
    if !matches!(sandbox::enter(begun.pid, &program, false), Ok(Entered::Ended(0))) {
        tracing::warn!(container, node, "a device could not be shared");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;

    #[test]
    fn mappings_are_those_that_lava_writes() {
        let jobs = tempfile::tempdir().unwrap();
        fs::create_dir(jobs.path().join("7")).unwrap();
        let yaml = "- container: lava-7-2.1\n  container_type: docker\n  device_info: {serial_number: b}\n  job_id: '7'\n";
        fs::write(jobs.path().join("7/usbmap.yaml"), yaml).unwrap();
        let found = mappings(jobs.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].container, "lava-7-2.1");
        assert_eq!(found[0].device_info.serial_number.as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn a_device_that_is_not_there_can_not_be_triggered() {
        let bench = Bench::start("\nmodel: A container\nfirmware:\n  kind: none\n").await;
        let found = bench.call(&TOOL, "trigger --action=add /dev/bus/usb/001/002").await;
        assert_eq!(found.err, "Failed to open the device '/dev/bus/usb/001/002': No such device\n");
        assert_eq!(found.code, 1);
        assert_eq!(bench.call(&TOOL, "frob").await.err, "Unknown command verb frob.\n");
    }
}
