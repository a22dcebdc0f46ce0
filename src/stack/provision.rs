//! Putting workers, device-types, tags, devices and dictionaries into a LAVA
//! server, hundreds in seconds.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::lava::Api;
use crate::lava::xmlrpc::{Call, Value, multicall};
use crate::secret::Secret;
use crate::stack::docker::Engine;
use crate::stack::docker::archive::{Archive, Owner};

/// Where LAVA keeps what it is configured by.
const CONFIGURATION: &str = "/etc/lava-server";
/// Where in it device dictionaries are.
const DICTIONARIES: &str = "dispatcher-config/devices";
/// For how many devices LAVA may look for a health check. It reads the dictionary of each idle
/// device each time it schedules (`schedule_health_checks` in `lava_scheduler_app/scheduler.py`),
/// which is devices times jobs: with 430 devices its scheduler took a fifth of all processor time.
/// A lab's usual number of devices keeps its full look, so that what it does is tested.
const LOOKED_AT: usize = 16;

/// A device as LAVA is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Name; also the name of its board.
    pub hostname: String,
    /// Device-type.
    pub device_type: String,
    /// Worker.
    pub worker: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Dictionary, Jinja2.
    pub dictionary: String,
}

/// Checks what LAVA would choke on, and would choke on late.
///
/// # Errors
/// [`Error::Usage`] for the first thing that is wrong.
pub fn check(devices: &[DeviceSpec], workers: &[String]) -> Result<()> {
    let mut names = BTreeSet::new();
    for device in devices {
        let DeviceSpec { hostname, device_type, worker, tags, .. } = device;
        for (what, name) in [("device", hostname), ("device-type", device_type)]
            .into_iter()
            .chain(tags.iter().map(|tag| ("tag", tag)))
        {
            if !is_name(name) {
                return Err(Error::Usage(format!(
                    "{what} {name:?} of device {hostname:?}: names are letters, digits, '.', '_' and '-', and \
                     begin with a letter or digit"
                )));
            }
        }
        if !names.insert(hostname) {
            return Err(Error::Usage(format!("two devices are named {hostname}")));
        }
        if !workers.contains(worker) {
            return Err(Error::Usage(format!(
                "device {hostname} is on worker {worker:?}, but the workers are {}",
                workers.join(", ")
            )));
        }
    }
    Ok(())
}

/// Whether a name can be a file name, an address part and a LAVA name.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Writes all dictionaries, and files of LAVA's `configuration` (path below
/// `/etc/lava-server`, and content), into the server's container, in one upload. Before
/// the devices are added: LAVA sets a device without a dictionary to health Bad.
///
/// # Errors
/// [`Error::Infrastructure`] when that fails.
pub async fn write_files(
    engine: &Engine,
    container: &str,
    devices: &[DeviceSpec],
    configuration: &[(String, Vec<u8>)],
) -> Result<()> {
    if devices.is_empty() && configuration.is_empty() {
        return Ok(());
    }
    let owner = owner_of(engine, container, &format!("{CONFIGURATION}/{DICTIONARIES}")).await?;
    // Jinja2 takes a template that is as old as it was for the same one.
    let mut archive = Archive::of_now();
    for (path, content) in configuration {
        if let Some((folder, _)) = path.rsplit_once('/') {
            archive.folder(folder, 0o755, owner)?;
        }
        archive.file(path, 0o644, owner, content)?;
    }
    for device in devices {
        let path = format!("{DICTIONARIES}/{}.jinja2", device.hostname);
        archive.file(&path, 0o644, owner, device.dictionary.as_bytes())?;
    }
    engine.upload(container, CONFIGURATION, archive.finish()?).await
}

/// Who owns a folder of a container.
async fn owner_of(engine: &Engine, container: &str, path: &str) -> Result<Owner> {
    let output = engine
        .exec(container, &["stat", "--format", "%u %g", path], None)
        .await?
        .success(&format!("looking at {path} in the server's container"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Owner { uid, gid }),
        _ => Err(Error::infrastructure(format!("stat of {path} in the server's container said {text:?}"))),
    }
}

/// Adds the workers; gives what each identifies itself with.
///
/// # Errors
/// [`Error::Infrastructure`] when LAVA refuses.
pub async fn add_workers(api: &Api, workers: &[String]) -> Result<BTreeMap<String, Secret>> {
    let calls: Vec<Call> =
        workers.iter().map(|worker| Call::new("scheduler.workers.add", [worker.as_str().into()])).collect();
    multicall(api, "add the workers to LAVA", &calls).await?;
    let mut tokens: BTreeMap<String, Secret> = api
        .workers()
        .await?
        .into_iter()
        .filter_map(|worker| Some((worker.hostname, worker.token?)))
        .collect();
    workers
        .iter()
        .map(|worker| {
            tokens.remove(worker).map(|token| (worker.clone(), token)).ok_or_else(|| {
                Error::infrastructure(format!(
                    "LAVA added worker {worker} but does not tell its token; is {} a superuser?",
                    api.user()
                ))
            })
        })
        .collect()
}

/// Adds device-types and devices: idle, good, with their tags.
///
/// # Errors
/// [`Error::Infrastructure`] when LAVA refuses.
pub async fn add_devices(api: &Api, devices: &[DeviceSpec]) -> Result<()> {
    let types = types(devices);
    let mut calls: Vec<Call> = types
        .keys()
        .map(|&name| {
            Call::new(
                "scheduler.device_types.add",
                [
                    name.into(),
                    "".into(),
                    Value::Truth(true),
                    Value::Truth(false),
                    Value::Number(24),
                    "hours".into(),
                ],
            )
        })
        .collect();
    calls.extend(without_health_checks(&types).map(|name| {
        let unchanged = || Value::Nothing;
        Call::new(
            "scheduler.device_types.update",
            [
                name.into(),
                unchanged(),
                unchanged(),
                unchanged(),
                unchanged(),
                unchanged(),
                Value::Truth(true),
            ],
        )
    }));
    for device in devices {
        calls.push(Call::new(
            "scheduler.devices.add",
            [
                device.hostname.as_str().into(),
                device.device_type.as_str().into(),
                device.worker.as_str().into(),
                Value::Nothing,
                Value::Nothing,
                Value::Truth(true),
                "GOOD".into(),
            ],
        ));
        for tag in &device.tags {
            calls.push(Call::new(
                "scheduler.devices.tags.add",
                [device.hostname.as_str().into(), tag.as_str().into()],
            ));
        }
    }
    multicall(api, "add the devices to LAVA", &calls).await
}

/// The device-types by name, and how many devices each has.
fn types(devices: &[DeviceSpec]) -> BTreeMap<&str, usize> {
    let mut types = BTreeMap::new();
    for device in devices {
        *types.entry(device.device_type.as_str()).or_default() += 1;
    }
    types
}

/// The device-types whose health checks are disabled: of all, in order, those that don't fit into
/// [`LOOKED_AT`] devices any more.
fn without_health_checks<'a>(types: &BTreeMap<&'a str, usize>) -> impl Iterator<Item = &'a str> {
    let mut looked_at = 0;
    types.iter().filter_map(move |(&name, &devices)| {
        let fits = looked_at + devices <= LOOKED_AT;
        looked_at += if fits { devices } else { 0 };
        (!fits).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_checks_are_looked_for_on_as_many_devices_as_a_lab_has() {
        let disabled = |types: &[(&'static str, usize)]| -> Vec<&str> {
            without_health_checks(&types.iter().copied().collect()).collect()
        };
        assert_eq!(disabled(&[("a", 10), ("b", 6)]), [""; 0]);
        assert_eq!(disabled(&[("a", 400), ("b", 10), ("c", 7), ("d", 6), ("e", 1)]), ["a", "c", "e"]);
    }

    fn device(hostname: &str, worker: &str) -> DeviceSpec {
        DeviceSpec {
            hostname: hostname.into(),
            device_type: "beaglebone-black".into(),
            worker: worker.into(),
            tags: vec!["usb".into()],
            dictionary: String::new(),
        }
    }

    #[test]
    fn what_lava_would_choke_on_is_said_before() {
        let workers = ["worker-1".to_owned()];
        let said = |devices: &[DeviceSpec]| check(devices, &workers).unwrap_err().to_string();
        assert!(check(&[device("bbb-01", "worker-1")], &workers).is_ok());
        assert!(said(&[device("../bbb", "worker-1")]).contains("begin with"));
        assert!(said(&[device("a", "worker-1"), device("a", "worker-1")]).contains("two devices"));
        assert!(said(&[device("a", "worker-2")]).contains("worker-1"));
        let mut bad = device("a", "worker-1");
        bad.tags.push("a b".into());
        assert!(said(&[bad]).contains("tag"));
    }
}
