//! Lays sabotages over the containers of a stack.
//!
//! What a job goes through on the worker, and its device's template, are its own: each
//! sabotage is a copy of them, and a job goes through the copy that its device is told to
//! take. So jobs run side by side under different sabotages. A change of the server is
//! everybody's, and its programs begin anew.
//!
//! - A template: copies of it, and of those that extend it, under names of their own; the
//!   device's dictionary extends the copy.
//! - The dispatcher: a copy of the package in which the file is changed, in front of the
//!   installed one on Python's path; a script in front of `lava-run` chooses it.
//! - A program of the worker: a script in front of it, on the path of the same job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::trace::server_traced;
use super::{Change, Place, Sabotage};
use crate::error::{Error, Result};
use crate::run::runner::Ready;
use crate::stack::Stack;
use crate::stack::docker::archive::{Archive, Owner};
use crate::stack::provision::{self, DeviceSpec};

/// Where the copies are, on a worker: a volume, which the archive API reaches.
const FOLDER: &str = "/var/lib/ghost/self-test";
/// Where it is written down what jobs and the server ran through, see [`super::traced`] and [`server_traced`].
pub const TRACES: &str = "/var/lib/ghost/self-test/traces";
/// Where LAVA's own templates are, and where an administrator's are.
const TEMPLATES: &str = "/usr/share/lava-server/device-types";
/// The most that is read of LAVA's files at once, in bytes.
const LIMIT: u64 = 64 << 20;
/// How long the server's programs may take to begin anew.
const RESTART: Duration = Duration::from_secs(60);

/// Where Python has a package, and where `lava-run` is.
const FIND: &str = "import importlib.util, os, shutil, sys
print(os.path.dirname(os.path.dirname(importlib.util.find_spec(sys.argv[1]).origin)))
print(shutil.which('lava-run') or '')";

/// In front of `lava-run` (`$real`): finds the copies that its device is told to take.
const WRAPPER: &str = r#"#!/bin/sh
# Laid over by `meta-lava self-test`: which copy of LAVA a job goes through.
for argument; do
    case $argument in
        --device=*)
            # Newer LAVAs tell its name. To others it is nowhere but in its power commands,
            device=$(sed -n "s/^hostname: *[\"']\{0,1\}\([A-Za-z0-9_.-]*\).*/\1/p
                s/.*ghost power [a-z]* \([A-Za-z0-9_.-]*\).*/\1/p" "${argument#--device=}" | head -n 1)
            # and one that is reached by SSH has none.
            port=$(sed -n "s/^ *port: *[\"']\{0,1\}\([0-9]\{1,\}\).*/\1/p" "${argument#--device=}" | head -n 1)
            if [ -z "$device" ] && [ -f "$folder/ports/$port" ]; then
                device=$(cat "$folder/ports/$port")
            fi
            ;;
    esac
done
export META_LAVA_DEVICE="$device"
if [ -n "$device" ] && [ -e "$folder/devices/$device" ]; then
    copy=$folder/copies/$(cat "$folder/devices/$device")
    export PYTHONPATH="$copy/python" PATH="$copy/bin:$PATH"
fi
exec "$real" "$@"
"#;

/// Ends the server's programs that hold its code, and has them started again.
const RESTART_SERVER: &str = r#"cd /run/meta-lava 2> /dev/null || {
    echo "only the server's image of this repository can start LAVA's programs again" >&2
    exit 1
}
for name in gunicorn scheduler; do
    touch "down/$name"
    old="$old $(cat "pid/$name")"
    kill -KILL "-$(cat "pid/$name")"
done
for pid in $old; do
    until ! test -e "/proc/$pid"; do sleep 0.02; done
done
rm down/gunicorn down/scheduler
for name in gunicorn scheduler; do
    until ! echo "$old " | grep -q " $(cat "pid/$name") "; do
        kill -USR1 "$(cat pid/supervisor)"
        sleep 0.05
    done
done"#;

/// The sabotages over one stack.
pub struct Overlay {
    stack: Arc<Stack>,
    server: String,
    worker: String,
    /// Where Python has LAVA's packages, on the worker and on the server.
    packages: (String, String),
    /// LAVA's templates of device-types, by file name.
    templates: BTreeMap<String, String>,
    /// What each device was told last: the copies that it takes, and its dictionary.
    told: Mutex<BTreeMap<String, (String, String)>>,
    /// Files of the server that are changed now, as they were; none for one that was not there.
    changed: Mutex<BTreeMap<String, Option<String>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Overlay {
    /// Makes a stack with one worker ready for sabotages. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when LAVA's files are not where they are looked for.
    pub async fn new(stack: Arc<Stack>) -> Result<Self> {
        let worker = stack.worker_container("worker-1")?.to_owned();
        let server = stack.server_container()?.to_owned();
        let find = async |container: &str, package: &str| {
            let output = stack.engine().exec(container, &["python3", "-c", FIND, package], None).await?;
            let output = output.success(&format!("looking for {package} in container {container}"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut lines = text.lines().map(str::to_owned);
            Ok::<_, Error>((lines.next().unwrap_or_default(), lines.next().unwrap_or_default()))
        };
        let templates = async {
            let files = stack.engine().download(&server, TEMPLATES, LIMIT).await?.unwrap_or_default();
            let text = |content: Vec<u8>| String::from_utf8_lossy(&content).into_owned();
            Ok(files
                .into_iter()
                .filter_map(|file| Some((file.path.rsplit('/').next()?.to_owned(), text(file.content))))
                .collect::<BTreeMap<_, _>>())
        };
        let (of_worker, of_server, templates) =
            tokio::try_join!(find(&worker, "lava_dispatcher"), find(&server, "lava_server"), templates)?;
        let (packages, lava_run) = of_worker;
        let wrapper = WRAPPER.replace("$real", &lava_run).replace("$folder", FOLDER);
        let mut archive = Archive::new();
        archive.file("usr/local/bin/lava-run", 0o755, Owner::default(), wrapper.as_bytes())?;
        for folder in ["", "/devices", "/ports", "/copies", "/traces"] {
            let path = format!("{FOLDER}{folder}");
            archive.folder(path.trim_start_matches('/'), 0o755, Owner::default())?;
        }
        stack.engine().upload(&worker, "/", archive.finish()?).await?;
        Ok(Self {
            server,
            worker,
            packages: (packages, of_server.0),
            templates,
            told: Mutex::default(),
            changed: Mutex::default(),
            stack,
        })
    }

    /// Files of the dispatcher, by their path below the folder that has its packages.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when they can't be had.
    pub async fn dispatcher_files(&self, paths: &BTreeSet<&str>) -> Result<BTreeMap<String, String>> {
        self.files(&self.worker, &self.packages.0, paths).await
    }

    /// Files of the server, by their path below the folder that has its packages.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when they can't be had.
    pub async fn server_files(&self, paths: &BTreeSet<&str>) -> Result<BTreeMap<String, String>> {
        self.files(&self.server, &self.packages.1, paths).await
    }

    async fn files(
        &self,
        container: &str,
        folder: &str,
        paths: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        for path in paths {
            let files = self.stack.engine().download(container, &format!("{folder}/{path}"), LIMIT).await?;
            // One that is not there can't be changed; the change says so.
            if let Some(file) = files.unwrap_or_default().into_iter().next() {
                found.insert((*path).to_owned(), String::from_utf8_lossy(&file.content).into_owned());
            }
        }
        Ok(found)
    }

    /// Where Python has LAVA's packages on the worker.
    #[must_use]
    pub fn packages(&self) -> &str {
        &self.packages.0
    }

    /// A template of device-types of LAVA's own, by its file name.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<&str> {
        self.templates.get(name).map(String::as_str)
    }

    /// What was written down of `scenarios`, by their names: the lines that each ran through under
    /// [`super::traced`]. One whose job ended before it came to LAVA's actions is not among them.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the worker is gone, or there is nothing of any of them.
    pub async fn traces_of<'a>(&self, scenarios: &'a [Ready]) -> Result<BTreeMap<&'a str, Vec<String>>> {
        let mut all = self.traces(&self.worker).await?;
        let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ready in scenarios {
            // A job of several roles is as many on the worker.
            for lines in ready.rendered.devices.iter().filter_map(|device| all.remove(&device.hostname)) {
                found.entry(&ready.scenario.name).or_default().extend(lines);
            }
        }
        for lines in found.values_mut() {
            lines.sort_unstable();
            lines.dedup();
        }
        if found.is_empty() && !scenarios.is_empty() {
            return Err(Error::infrastructure("it was not written down what any scenario ran through"));
        }
        Ok(found)
    }

    /// Has it written down which lines the server runs through, until it is changed again.
    ///
    /// # Errors
    /// As [`Self::change_server`].
    pub async fn trace_server(&self) -> Result<()> {
        let mut archive = Archive::new();
        // Its programs have users of their own.
        archive.folder(TRACES.trim_start_matches('/'), 0o1777, Owner::default())?;
        self.stack.engine().upload(&self.server, "/", archive.finish()?).await?;
        self.change_server(Some(&server_traced())).await
    }

    /// What was written down of the server: the lines that it has run through since [`Self::trace_server`].
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the server is gone, or there is nothing.
    pub async fn trace_of_server(&self) -> Result<BTreeSet<String>> {
        let lines: BTreeSet<String> = self.traces(&self.server).await?.into_values().flatten().collect();
        if lines.is_empty() {
            return Err(Error::infrastructure("it was not written down what the server ran through"));
        }
        Ok(lines)
    }

    /// What was written down in a container, by device: a file for each process, `<device>.<pid>.lines`.
    async fn traces(&self, container: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let files = self.stack.engine().download(container, TRACES, LIMIT).await?.unwrap_or_default();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in &files {
            let name = file.path.rsplit('/').next().and_then(|name| name.strip_suffix(".lines"));
            if let Some((device, _)) = name.and_then(|name| name.rsplit_once('.')) {
                let lines = String::from_utf8_lossy(&file.content);
                found.entry(device.to_owned()).or_default().extend(lines.lines().map(str::to_owned));
            }
        }
        Ok(found)
    }

    /// Runs a Python program on the worker, with `input`; gives what it printed.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it fails.
    pub async fn python(&self, program: &str, input: Vec<u8>) -> Result<Vec<u8>> {
        let (source, answer) = (format!("{FOLDER}/program.py"), format!("{FOLDER}/answer"));
        let given = format!("{FOLDER}/input");
        let mut archive = Archive::new();
        archive.file(source.trim_start_matches('/'), 0o644, Owner::default(), program.as_bytes())?;
        archive.file(given.trim_start_matches('/'), 0o644, Owner::default(), &input)?;
        let engine = self.stack.engine();
        engine.upload(&self.worker, "/", archive.finish()?).await?;
        // By files: it may print more than an exec may.
        let script = format!("python3 {source} < {given} > {answer}");
        engine.exec(&self.worker, &["sh", "-c", &script], None).await?.success("running Python")?;
        let files = engine.download(&self.worker, &answer, LIMIT).await?.unwrap_or_default();
        Ok(files.into_iter().next().map(|file| file.content).unwrap_or_default())
    }

    /// Makes the copies of all that `sabotages` change for single jobs.
    ///
    /// # Errors
    /// [`Error::Usage`] for a sabotage that does not fit this LAVA.
    pub async fn prepare(&self, sabotages: &[&Sabotage], devices: &[DeviceSpec]) -> Result<()> {
        let all = || sabotages.iter().flat_map(|sabotage| sabotage.change.iter().map(move |c| (sabotage, c)));
        let paths =
            all().filter(|(_, c)| c.place == Place::Dispatcher).map(|(_, c)| c.file.as_str()).collect();
        let originals = self.dispatcher_files(&paths).await?;
        let mut script = String::from("set -e\n");
        let mut archive = Archive::new();
        let mut texts: BTreeMap<String, (u32, String)> = BTreeMap::new();
        for (sabotage, change) in all() {
            let copy = format!("{FOLDER}/copies/{}", sabotage.name);
            match change.place {
                Place::Dispatcher => {
                    script.push_str(&format!("mkdir -p '{copy}/python'\n"));
                    // A file beside the packages is a new one.
                    if let Some((package, _)) = change.file.split_once('/') {
                        let from = format!("{}/{package}", self.packages.0);
                        let to = format!("{copy}/python");
                        script.push_str(&format!("test -e '{to}/{package}' || cp -a '{from}' '{to}/'\n"));
                    }
                    let path = format!("{copy}/python/{}", change.file);
                    let executable = !change.file.ends_with(".py");
                    let text = changed(sabotage, change, texts.get(&path).map(|t| &t.1), &originals)?;
                    texts.insert(path, (if executable { 0o755 } else { 0o644 }, text));
                }
                Place::Command => {
                    script.push_str(&format!("mkdir -p '{copy}/bin'\n"));
                    texts.insert(format!("{copy}/bin/{}", change.file), (0o755, change.with.clone()));
                }
                Place::Template | Place::Server => {}
            }
        }
        for device in devices {
            if let Some(port) = ssh_port(&device.dictionary) {
                let path = format!("{FOLDER}/ports/{port}");
                let name = device.hostname.as_bytes();
                archive.file(path.trim_start_matches('/'), 0o644, Owner::default(), name)?;
            }
        }
        for (path, (mode, text)) in &texts {
            archive.file(path.trim_start_matches('/'), *mode, Owner::default(), text.as_bytes())?;
        }
        let engine = self.stack.engine();
        engine
            .exec(&self.worker, &["sh", "-c", &script], None)
            .await?
            .success("copying LAVA's dispatcher")?;
        engine.upload(&self.worker, "/", archive.finish()?).await?;

        let mut templates: Vec<(String, Vec<u8>)> = Vec::new();
        for sabotage in sabotages {
            let changes: Vec<&Change> =
                sabotage.change.iter().filter(|change| change.place == Place::Template).collect();
            if changes.is_empty() {
                continue;
            }
            let mut copies = BTreeMap::new();
            for change in changes {
                let text = changed(sabotage, change, copies.get(&change.file), &self.templates)?;
                copies.insert(change.file.clone(), text);
            }
            let types: BTreeSet<&str> = devices.iter().map(|device| device.device_type.as_str()).collect();
            for name in types {
                self.descend(&format!("{name}.jinja2"), &mut copies);
            }
            let names: Vec<String> = copies.keys().cloned().collect();
            for (name, text) in copies {
                let text = names.iter().fold(text, |text, name| renamed(&text, &sabotage.name, name));
                let path = format!("dispatcher-config/device-types/{}", copy_of(&sabotage.name, &name));
                templates.push((path, text.into_bytes()));
            }
        }
        provision::write_files(engine, &self.server, &[], &templates).await
    }

    /// Adds `name` to `copies` when it extends, however indirectly, one that is there.
    fn descend(&self, name: &str, copies: &mut BTreeMap<String, String>) -> bool {
        if copies.contains_key(name) {
            return true;
        }
        let Some(text) = self.templates.get(name) else { return false };
        let Some(parent) = extended(text) else { return false };
        let copied = parent != name && self.descend(parent, copies);
        if copied {
            copies.insert(name.to_owned(), text.clone());
        }
        copied
    }

    /// Whether the template of a device-type is another one under `sabotage`.
    #[must_use]
    pub fn concerns(&self, sabotage: &Sabotage, device_type: &str) -> bool {
        let mut copies: BTreeMap<String, String> = sabotage
            .change
            .iter()
            .filter(|change| change.place == Place::Template)
            .map(|change| (change.file.clone(), String::new()))
            .collect();
        self.descend(&format!("{device_type}.jinja2"), &mut copies)
    }

    /// Tells a device which copies its next job goes through: those of `sabotage`, or LAVA
    /// as it is.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when a container is gone.
    pub async fn tell(&self, device: &DeviceSpec, sabotage: Option<&Sabotage>) -> Result<()> {
        let copies = sabotage.map_or("none", |sabotage| sabotage.name.as_str());
        let dictionary = match sabotage {
            Some(sabotage) if self.concerns(sabotage, &device.device_type) => {
                let file = format!("{}.jinja2", device.device_type);
                renamed(&device.dictionary, &sabotage.name, &file)
            }
            _ => device.dictionary.clone(),
        };
        let before = lock(&self.told)
            .insert(device.hostname.clone(), (copies.to_owned(), dictionary.clone()))
            .unwrap_or_else(|| (String::new(), device.dictionary.clone()));
        let engine = self.stack.engine();
        if before.0 != copies {
            let mut archive = Archive::new();
            archive.file(&device.hostname, 0o644, Owner::default(), copies.as_bytes())?;
            engine.upload(&self.worker, &format!("{FOLDER}/devices"), archive.finish()?).await?;
        }
        if before.1 != dictionary {
            let device = DeviceSpec { dictionary, ..device.clone() };
            provision::write_files(engine, &self.server, &[device], &[]).await?;
        }
        Ok(())
    }

    /// Changes the server as `sabotage` says, after what was changed before is as it was;
    /// then its programs begin anew. No job may be under way.
    ///
    /// # Errors
    /// [`Error::Usage`] for a sabotage that does not fit this LAVA, [`Error::Infrastructure`]
    /// when the server does not come back.
    pub async fn change_server(&self, sabotage: Option<&Sabotage>) -> Result<()> {
        // Files as they are to be; none for one that is not to be there.
        let mut texts = std::mem::take(&mut *lock(&self.changed));
        let changes: Vec<&Change> = sabotage
            .iter()
            .flat_map(|sabotage| &sabotage.change)
            .filter(|change| change.place == Place::Server)
            .collect();
        if texts.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let paths = changes.iter().map(|change| change.file.as_str()).collect();
        let engine = self.stack.engine();
        let mut originals = self.files(&self.server, &self.packages.1, &paths).await?;
        // What is changed now is not the original.
        originals.extend(texts.iter().filter_map(|(path, text)| Some((path.clone(), text.clone()?))));
        for change in changes {
            if let Some(sabotage) = sabotage {
                let text = changed(sabotage, change, None, &originals)?;
                texts.insert(change.file.clone(), Some(text));
                lock(&self.changed).insert(change.file.clone(), originals.get(&change.file).cloned());
            }
        }
        let mut archive = Archive::new();
        let mut script = String::from("set -e\n");
        for (path, text) in &texts {
            let whole = format!("{}/{path}", self.packages.1);
            match text {
                Some(text) => {
                    archive.file(whole.trim_start_matches('/'), 0o644, Owner::default(), text.as_bytes())?;
                }
                None => script.push_str(&format!("rm -f '{whole}'\n")),
            }
            // Python goes by time and size, and both may be alike.
            if let Some((folder, file)) = whole.rsplit_once('/') {
                let stem = file.trim_end_matches(".py");
                script.push_str(&format!("rm -f '{folder}/__pycache__/{stem}.'*\n"));
            }
        }
        engine.upload(&self.server, "/", archive.finish()?).await?;
        script.push_str(RESTART_SERVER);
        let command = ["sh", "-c", &script];
        let restart = engine.exec(&self.server, &command, None);
        let restarted = tokio::time::timeout(RESTART, restart).await.map_err(|_| {
            Error::infrastructure(format!(
                "the server's programs did not begin anew in {} s",
                RESTART.as_secs()
            ))
        })?;
        restarted?.success("starting the server's programs again")?;
        self.stack.api().wait_ready(RESTART).await.map(|_| ())
    }
}

/// The file's text after `change`, which comes after an earlier one of the same sabotage.
fn changed(
    sabotage: &Sabotage,
    change: &Change,
    earlier: Option<&String>,
    originals: &BTreeMap<String, String>,
) -> Result<String> {
    let misfit =
        |why: String| Error::Usage(format!("the sabotage {} does not fit this LAVA: {why}", sabotage.name));
    let text = earlier.or_else(|| originals.get(&change.file)).map(String::as_str);
    let text = match text {
        // What replaces a whole file may be a new one.
        None if change.replace.is_none() => "",
        None => return Err(misfit(format!("it has no file {}", change.file))),
        Some(text) => text,
    };
    change.apply(text).map_err(misfit)
}

/// The file name of a template's copy.
fn copy_of(sabotage: &str, template: &str) -> String {
    format!("meta-lava-{sabotage}-{template}")
}

/// `text` with the copy of `template` wherever it names it.
fn renamed(text: &str, sabotage: &str, template: &str) -> String {
    ['\'', '"'].iter().fold(text.to_owned(), |text, quote| {
        let copy = copy_of(sabotage, template);
        text.replace(&format!("{quote}{template}{quote}"), &format!("{quote}{copy}{quote}"))
    })
}

/// The port at which a device is reached by SSH, by its dictionary.
fn ssh_port(dictionary: &str) -> Option<&str> {
    let value = dictionary.split_once("set ssh_port")?.1.trim_start_matches([' ', '=', '\'', '"']);
    let end = value.find(|c: char| !c.is_ascii_digit())?;
    (end > 0).then(|| &value[..end])
}

/// The template that a template extends.
fn extended(text: &str) -> Option<&str> {
    let rest = text.split_once("{% extends ").or_else(|| text.split_once("{%- extends "))?.1;
    let quote = rest.chars().next().filter(|quote| "'\"".contains(*quote))?;
    rest[1..].split_once(quote).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_the_one_that_it_extends() {
        assert_eq!(extended("{# x #}\n{% extends 'base-uboot.jinja2' %}\n"), Some("base-uboot.jinja2"));
        assert_eq!(extended("{% extends \"base.jinja2\" %}"), Some("base.jinja2"));
        assert_eq!(extended("{% extends base %}"), None);
        assert_eq!(extended("no template"), None);
    }

    #[test]
    fn a_device_without_power_commands_is_known_by_its_port() {
        assert_eq!(ssh_port("{% set ssh_host = 'x' %}\n{% set ssh_port = '26840' %}\n"), Some("26840"));
        assert_eq!(ssh_port("{% set ssh_port = 22 %}"), Some("22"));
        assert_eq!(ssh_port("{% set ssh_port = port %}"), None);
        assert_eq!(ssh_port("{% set connection_command = 'telnet' %}"), None);
    }

    #[test]
    fn a_copy_extends_copies() {
        let text = renamed("{% extends 'base.jinja2' %} base.jinja2", "no-dhcp", "base.jinja2");
        assert_eq!(text, "{% extends 'meta-lava-no-dhcp-base.jinja2' %} base.jinja2");
    }
}
