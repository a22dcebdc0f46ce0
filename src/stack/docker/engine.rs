//! The connection to the engine, and what kind of engine it is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::{Host, host, is_tcp};
use super::kind;
use super::tls;
use crate::error::{Error, Result, chain};

/// How long the engine has to answer its first questions.
const CONNECT: Duration = Duration::from_secs(15);
/// How long any later request may take until its answer begins. Generous: an
/// engine on a loaded machine takes its time to remove a container.
pub(super) const REQUEST: u64 = 180;
/// A connection to a Docker engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) docker: bollard::Docker,
    host: Host,
    version: String,
    api: String,
    min_api: String,
    is_podman: bool,
}

/// What is known about an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// Version of the engine.
    pub version: String,
    /// Version of its API.
    pub api: String,
    /// The oldest version of the API that it still answers to.
    pub min_api: String,
    /// Whether it is Podman, which speaks Docker's API.
    pub is_podman: bool,
    /// What is not known of its kind, each in a sentence; a run then tries it first.
    pub untried: Vec<String>,
    /// `amd64`, `arm64`, ... as Docker says it.
    pub architecture: String,
    /// `linux` or `windows`.
    pub os: String,
    /// `overlay2`, `fuse-overlayfs`, ...
    pub storage_driver: String,
    /// Processors of the engine's machine.
    pub cpus: usize,
    /// Its memory in bytes.
    pub memory: u64,
    /// Where the engine keeps its data, on its own machine.
    pub data_root: PathBuf,
    /// Free bytes there, when the engine is on this machine.
    pub disk_free: Option<u64>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("host", &self.host.address).field("version", &self.version).finish()
    }
}

impl Engine {
    /// Connects to the engine that `DOCKER_HOST`, or Docker's current context, names.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when there is none, or it does not answer.
    pub async fn connect() -> Result<Self> {
        let host = host()?;
        Self::connect_to(host, CONNECT).await
    }

    pub(super) async fn connect_to(host: Host, deadline: Duration) -> Result<Self> {
        let docker = open(&host)?;
        let answer = tokio::time::timeout(deadline, async {
            let docker = docker.negotiate_version().await?;
            let version = docker.version().await?;
            Ok::<_, bollard::errors::Error>((docker, version))
        })
        .await;
        let (docker, version) = match answer {
            Err(_) => {
                return Err(Error::infrastructure(format!(
                    "the Docker engine at {} ({}) takes connections but did not answer for {} s; is it hanging? (`docker version` will show the same; restart the engine)",
                    host.address,
                    host.source,
                    deadline.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(unreachable(&host, &error)),
            Ok(Ok(found)) => found,
        };
        let is_podman = kind::is_podman(&version);
        let min_api = version.min_api_version.unwrap_or_default();
        let api = version.api_version.unwrap_or_default();
        let version = version.version.unwrap_or_else(|| "?".into());
        if parse_version(&api) < (1, 41) {
            return Err(Error::infrastructure(format!(
                "the Docker engine at {} is {version} (API {api}); meta-lava needs API 1.41, which is engine 20.10, or newer",
                host.address
            )));
        }
        tracing::debug!(host = host.address, version, api, "connected to the engine");
        Ok(Self { docker, host, version, api, min_api, is_podman })
    }

    /// Its address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether it is Podman, which speaks Docker's API.
    pub(super) fn is_podman(&self) -> bool {
        self.is_podman
    }

    /// Whether it still answers: one that hangs would keep each further request for
    /// minutes.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not.
    pub async fn check_answers(&self) -> Result<()> {
        match tokio::time::timeout(CONNECT, self.docker.ping()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unreachable(&self.host, &error)),
            Err(_) => Err(Error::infrastructure(format!(
                "the Docker engine at {} does not answer any more, not within {} s",
                self.host.address,
                CONNECT.as_secs()
            ))),
        }
    }

    /// Asks what kind of engine it is.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not say, or is of a kind that a run can't work on:
    /// for other than Linux containers, or in a user namespace.
    pub async fn preflight(&self) -> Result<Preflight> {
        let info = tokio::time::timeout(CONNECT, self.docker.info())
            .await
            .map_err(|_| {
                Error::infrastructure(format!("the Docker engine at {} answers, but not to `docker info` in {} s; it is overloaded or its storage hangs", self.host.address, CONNECT.as_secs()))
            })?
            .map_err(|error| fault("ask the Docker engine about itself", &error))?;
        let os = info.os_type.unwrap_or_default();
        if os != "linux" {
            return Err(Error::infrastructure(format!(
                "the Docker engine at {} runs {os} containers; meta-lava needs Linux containers",
                self.host.address
            )));
        }
        let security = info.security_options.unwrap_or_default();
        if let Some(why) = kind::refusal(&security) {
            return Err(Error::infrastructure(format!("the Docker engine at {} {why}", self.host.address)));
        }
        let architecture = docker_architecture(&info.architecture.unwrap_or_default());
        let data_root = PathBuf::from(info.docker_root_dir.unwrap_or_default());
        Ok(Preflight {
            version: self.version.clone(),
            api: self.api.clone(),
            min_api: self.min_api.clone(),
            is_podman: self.is_podman,
            untried: kind::untried(&security, &architecture, self.is_podman),
            architecture,
            os,
            storage_driver: info.driver.unwrap_or_default(),
            cpus: usize::try_from(info.ncpu.unwrap_or_default()).unwrap_or_default(),
            memory: u64::try_from(info.mem_total.unwrap_or_default()).unwrap_or_default(),
            disk_free: self.host.is_local().then(|| disk_free(&data_root)).flatten(),
            data_root,
        })
    }
}

fn open(host: &Host) -> Result<bollard::Docker> {
    let version = bollard::API_DEFAULT_VERSION;
    let address = host.address.as_str();
    let opened = if let Some(path) = address.strip_prefix("unix://") {
        if !Path::new(path).exists() {
            return Err(Error::infrastructure(format!(
                "no Docker engine: {path} ({}) does not exist; install and start Docker (Debian: `apt install docker.io docker-compose`), or set DOCKER_HOST to an engine elsewhere",
                host.source
            )));
        }
        bollard::Docker::connect_with_unix(address, REQUEST, version)
    } else if let Some(tls) = &host.tls {
        return tls.open(host, REQUEST, version);
    } else if is_tcp(address) {
        bollard::Docker::connect_with_http(address, REQUEST, version)
    } else {
        return Err(Error::Usage(format!(
            "the engine's address {address:?} ({}) is neither unix:// nor tcp://; forward it: `ssh -L \
             /tmp/docker.sock:/var/run/docker.sock HOST` and DOCKER_HOST=unix:///tmp/docker.sock",
            host.source
        )));
    };
    opened.map_err(|error| unreachable(host, &error))
}

pub(super) fn unreachable(host: &Host, error: &bollard::errors::Error) -> Error {
    if let Some(error) = tls::mismatch(host, error) {
        return error;
    }
    let reason = chain(error);
    let hint = if reason.to_lowercase().contains("permission denied") {
        "; this user may not talk to it: be root, or join the group `docker`"
    } else if host.tls.is_some() {
        "; is the engine running, and is this its port for TLS, usually 2376?"
    } else if is_tcp(&host.address) && !is_connect(error) {
        "; if this port speaks TLS: set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder with its files"
    } else {
        "; is the engine running?"
    };
    Error::infrastructure(format!(
        "no answer from the Docker engine at {} ({}): {reason}{hint}",
        host.address, host.source
    ))
}

/// Whether not even a connection was made.
fn is_connect(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::HyperLegacyError { err } if err.is_connect())
}

/// An engine's refusal, in one line: what was attempted and what it said.
pub(super) fn fault(attempt: &str, error: &bollard::errors::Error) -> Error {
    let said = match error {
        bollard::errors::Error::DockerResponseServerError { status_code, message } => {
            format!("the engine said {status_code}: {}", message.trim())
        }
        bollard::errors::Error::DockerStreamError { error } => error.trim().to_owned(),
        other => chain(other),
    };
    Error::failed(attempt, said)
}

/// Whether the engine said that the thing is not there.
pub(super) fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

/// The filter that the engine takes for one label.
pub(super) fn label_filter(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}

/// A version of the API, for comparing.
#[must_use]
pub fn parse_version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Docker's name of an architecture, from the kernel's.
fn docker_architecture(name: &str) -> String {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "arm",
        other => other,
    }
    .into()
}

/// Free bytes for an unprivileged user on the file system of `path` or of the
/// nearest folder above it that can be looked at.
pub fn disk_free(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|path| {
        let stat = nix::sys::statvfs::statvfs(path).ok()?;
        Some(stat.fragment_size() * stat.blocks_available())
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_missing_socket_a_dead_port_and_a_hanging_engine_each_say_so() {
        let here = |address: String| Host { address, source: "from DOCKER_HOST".into(), tls: None };
        let second = Duration::from_millis(200);
        let dir = tempfile::tempdir().unwrap();
        let missing = here(format!("unix://{}/no.sock", dir.path().display()));
        let text = Engine::connect_to(missing, second).await.unwrap_err().to_string();
        assert!(text.starts_with("no Docker engine:"), "{text}");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
        let error = Engine::connect_to(here(address.clone()), second).await.unwrap_err();
        assert!(error.to_string().contains("did not answer"), "{error}");
        assert_eq!(error.exit(), crate::exit_code::Exit::Infrastructure);
        server.await.unwrap();

        let error = Engine::connect_to(here(address), second).await.unwrap_err();
        assert!(error.to_string().starts_with("no answer from the Docker engine"), "{error}");
        let error = Engine::connect_to(here("ssh://lab".into()), second).await.unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("1.9") < parse_version("1.41"));
        assert_eq!(parse_version(""), (0, 0));
    }
}
