//! `meta-lava doctor`: is this machine ready. What can be tried is tried.

use std::path::Path;

use futures_util::future::join_all;

use crate::commands::print;
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::interrupt::Interrupt;
use crate::programs::{has_program, may_install};
use crate::stack::compose::Compose;
use crate::stack::docker::Engine;
use crate::stack::docker::engine::{Preflight, disk_free};
use crate::stack::docker::objects::tail;
use crate::stack::images;
use crate::stack::images::base;
use crate::stack::sweep::{self, State};
use crate::stack::{server_kind, trial};

/// Room for all images with their layers, and for a run.
const DISK_NEEDED: u64 = 4 << 30;
/// Room that leaves some air.
const DISK_GOOD: u64 = 8 << 30;
/// What a server and a worker with jobs take.
const MEMORY_GOOD: u64 = 3 << 30;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Ok,
    Warn,
    Fail,
}

/// One line of the diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    health: Health,
    what: &'static str,
    text: String,
}

fn line(health: Health, what: &'static str, text: impl Into<String>) -> Line {
    Line { health, what, text: text.into() }
}

/// Does it.
///
/// # Errors
/// See [`crate::error::Error`].
pub async fn run(_args: Args) -> Result<Exit> {
    let mut lines = Vec::new();
    let root = crate::root::root();
    match &root {
        Ok(root) => lines.push(line(Health::Ok, "repository", root.display().to_string())),
        Err(error) => lines.push(line(Health::Fail, "repository", error.to_string())),
    }
    lines.push(cores(std::thread::available_parallelism().map_or(0, usize::from)));
    let compose = match Compose::find().await {
        Ok(compose) => compose.describe().await.map(|text| (compose, text)),
        Err(error) => Err(error),
    };
    let compose = match compose {
        Ok((compose, text)) => {
            lines.push(line(Health::Ok, "compose", text));
            Some(compose)
        }
        Err(error) => {
            lines.push(line(Health::Fail, "compose", error.to_string()));
            None
        }
    };
    match Engine::connect().await {
        Err(error) => lines.push(line(Health::Fail, "docker", error.to_string())),
        Ok(engine) => match engine.preflight().await {
            Err(error) => lines.push(line(Health::Fail, "docker", error.to_string())),
            Ok(preflight) => {
                docker(&engine, &preflight, &mut lines);
                if let Ok(root) = &root {
                    let (files, container) = tokio::join!(
                        try_files(&engine, root, compose.as_ref()),
                        try_container(&engine, root, &preflight.architecture)
                    );
                    lines.extend(files.into_iter().chain(container?));
                    about_images(&engine, root, &mut lines).await;
                }
                left_behind(&engine, &mut lines).await;
            }
        },
    }
    if let Some(free) = disk_free(&std::env::temp_dir())
        && free < 1 << 30
    {
        let text = format!("only {} free in {}", size(free), std::env::temp_dir().display());
        lines.push(line(Health::Warn, "temporary", text));
    }
    print(&render(&lines));
    let failed = lines.iter().any(|line| line.health == Health::Fail);
    Ok(if failed { Exit::Infrastructure } else { Exit::Ok })
}

fn cores(count: usize) -> Line {
    match count {
        0 | 1 => line(Health::Warn, "cores", "one core: jobs will be slow, and may run into LAVA's timeouts"),
        count => line(Health::Ok, "cores", count.to_string()),
    }
}

fn docker(engine: &Engine, found: &Preflight, lines: &mut Vec<Line>) {
    lines.push(line(
        Health::Ok,
        "docker",
        format!(
            "engine {} (API {}) at {}{}, {}, {}",
            found.version,
            found.api,
            engine.host().address,
            if engine.host().tls.is_some() { " over TLS" } else { "" },
            found.architecture,
            found.storage_driver
        ),
    ));
    if found.is_podman {
        lines.push(line(Health::Ok, "docker", "it is Podman, which speaks Docker's API"));
    }
    if !engine.host().is_local() {
        let text = if engine.host().is_loopback() {
            "the engine is behind a port of this machine: LAVA is reached through tunnels, as if it were elsewhere"
        } else {
            "the engine is on another machine: LAVA is reached through tunnels"
        };
        lines.push(line(Health::Ok, "docker", text));
    }
    for untried in &found.untried {
        let text = format!("{untried}; what a run needs is tried here, and before each run");
        lines.push(line(Health::Warn, "docker", text));
    }
    if found.memory > 0 && found.memory < MEMORY_GOOD {
        let text = format!("{}; with many jobs at once it may not be enough", size(found.memory));
        lines.push(line(Health::Warn, "memory", text));
    }
    if let Some(free) = found.disk_free {
        let text = format!("{} free in {}", size(free), found.data_root.display());
        lines.push(match free {
            free if free < DISK_NEEDED => line(
                Health::Fail,
                "disk",
                format!("{text}; {} are needed: `docker system prune` may help", size(DISK_NEEDED)),
            ),
            free if free < DISK_GOOD => line(Health::Warn, "disk", text),
            _ => line(Health::Ok, "disk", text),
        });
    }
}

/// Has the Compose tool read what it is given in a run, for each kind of server, and talk to the engine.
async fn try_files(engine: &Engine, root: &Path, compose: Option<&Compose>) -> Vec<Line> {
    let Some(compose) = compose else { return Vec::new() };
    let overlays = server_kind::KINDS.into_iter().map(|kind| kind.overlay);
    let tried = join_all(overlays.map(|overlay| compose.try_files(engine, root, overlay))).await;
    let mut lines: Vec<Line> = Vec::new();
    for tried in tried {
        let found = match tried {
            Err(error) => line(Health::Fail, "compose", error.to_string()),
            Ok(said) if !said.trim().is_empty() => {
                line(Health::Warn, "compose", format!("it says of the files of a run: {}", tail(&said, 5)))
            }
            Ok(_) => line(Health::Ok, "compose", "it reads the files of a run, and reaches the engine"),
        };
        if !lines.contains(&found) {
            lines.push(found);
        }
    }
    lines
}

/// Has the engine do with the smallest container what it has to do with a worker.
async fn try_container(engine: &Engine, root: &Path, architecture: &str) -> Result<Vec<Line>> {
    let run = sweep::new_run_name();
    let left = format!("a container of run {run} may be left behind; `meta-lava clean` removes it");
    let interrupt = Interrupt::listen(move || left.clone())?;
    let tried = interrupt.or(trial::run(engine, root, &run, architecture)).await;
    let swept = sweep::sweep_run(engine, &run).await;
    let mut lines = match tried {
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => vec![line(Health::Fail, "container", format!("{error}; no run could begin"))],
        Ok(findings) => findings
            .iter()
            .filter_map(|finding| {
                let health = if trial::is_needed(finding) { Health::Fail } else { Health::Warn };
                Some(line(health, "container", trial::consequence(finding)?))
            })
            .collect(),
    };
    if lines.is_empty() {
        let text = "one that is allowed what a worker is does what a worker and its boards need";
        lines.push(line(Health::Ok, "container", text));
    }
    if let Err(error) = swept {
        lines.push(line(Health::Warn, "container", format!("{error}; `meta-lava clean` may remove it")));
    }
    Ok(lines)
}

async fn about_images(engine: &Engine, root: &Path, lines: &mut Vec<Line>) {
    let missing = match images::status(engine, root).await {
        Err(error) => {
            lines.push(line(Health::Fail, "images", error.to_string()));
            return;
        }
        Ok(status) if status.is_empty() => vec!["those of the LAVA that Debian's archive has".to_owned()],
        Ok(status) => {
            status.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect::<Vec<_>>()
        }
    };
    if missing.is_empty() {
        lines.push(line(Health::Ok, "images", "all built and up to date"));
        return;
    }
    let text = format!("the next run builds {}", missing.join(", "));
    lines.push(line(Health::Ok, "images", text));
    let debian = base::Debian::world();
    let base = match debian.present(engine).await {
        Ok(Some(name)) => line(Health::Ok, "base image", name),
        Ok(None) if has_program("mmdebstrap") => {
            line(Health::Ok, "base image", format!("{} is pulled, or made with mmdebstrap", debian.name()))
        }
        Ok(None) if may_install() => line(
            Health::Ok,
            "base image",
            format!("{} is pulled, or made with mmdebstrap, which is installed for it", debian.name()),
        ),
        Ok(None) => line(
            Health::Warn,
            "base image",
            format!(
                "{} has to be pulled; where that can't be, run `apt-get install mmdebstrap` as root",
                debian.name()
            ),
        ),
        Err(error) => line(Health::Fail, "base image", error.to_string()),
    };
    lines.push(base);
}

async fn left_behind(engine: &Engine, lines: &mut Vec<Line>) {
    match sweep::find(engine).await {
        Err(error) => lines.push(line(Health::Fail, "left behind", error.to_string())),
        Ok(found) => {
            for found in found {
                match found.state {
                    State::Kept => {
                        lines.push(line(Health::Ok, "stacks", format!("{} is up", found.run)));
                    }
                    State::Alive => {
                        lines.push(line(Health::Warn, "stacks", format!("{} is under way now", found.run)));
                    }
                    State::Dead | State::Unknown => lines.push(line(
                        Health::Warn,
                        "stacks",
                        format!("{} has left {} things; `meta-lava clean`", found.run, found.objects.len()),
                    )),
                }
            }
        }
    }
}

fn size(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib >= 1.0 { format!("{gib:.1} GiB") } else { format!("{} MiB", bytes >> 20) }
}

fn render(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let word = match line.health {
            Health::Ok => "ok",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        text.push_str(&format!("{word:<5} {:<12} {}\n", line.what, line.text));
    }
    text.push_str(match lines {
        lines if lines.iter().any(|line| line.health == Health::Fail) => "this machine is not ready\n",
        _ => "this machine is ready\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_how_it_is() {
        let lines = [line(Health::Ok, "docker", "20.10"), line(Health::Warn, "cores", "one core")];
        assert_eq!(
            render(&lines),
            "ok    docker       20.10\nwarn  cores        one core\nthis machine is ready\n"
        );
        let lines = [line(Health::Fail, "compose", "none")];
        assert!(render(&lines).ends_with("this machine is not ready\n"));
        assert_eq!(cores(1).health, Health::Warn);
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(size(5 << 20), "5 MiB");
    }
}
