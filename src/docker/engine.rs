//! The connection to the engine, and what kind of engine it is.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::tls::{self, By, Tls};
use crate::error::{Error, Result};

/// How long the engine has to answer its first questions.
const CONNECT: Duration = Duration::from_secs(15);
/// How long any later request may take until its answer begins. Generous: an
/// engine on a loaded machine takes its time to remove a container.
const REQUEST: u64 = 180;
/// Where the engine listens unless told otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Where it listens unless told otherwise, when it is asked for over TLS.
const DEFAULT_TLS_HOST: &str = "tcp://localhost:2376";

/// A connection to a Docker engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) docker: bollard::Docker,
    host: Host,
    version: String,
    api: String,
}

/// The address of an engine and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `unix://…` or `tcp://…`.
    pub address: String,
    /// `DOCKER_HOST`, a context, or the default; for messages.
    pub source: String,
    /// What it is spoken to with over TLS; a socket never is.
    pub tls: Option<Tls>,
}

impl Host {
    /// Whether the engine is on this machine, so that what it publishes on
    /// 127.0.0.1 is reachable.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address.starts_with("unix://")
    }

    /// Has another program, which reads Docker's variables, talk to the same engine
    /// in the same way, whatever else these variables say.
    pub fn hand_to(&self, command: &mut tokio::process::Command) {
        command.env("DOCKER_HOST", &self.address);
        for name in ["DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
            command.env_remove(name);
        }
        if let Some(tls) = &self.tls {
            command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", &tls.folder);
            // Python's requests, and so `docker-compose`, would trust these instead of `ca.pem`.
            command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
        }
    }
}

/// What is known about an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// Version of the engine.
    pub version: String,
    /// Version of its API.
    pub api: String,
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
                return Err(Error::Infrastructure(format!(
                    "the Docker engine at {} ({}) takes connections but did not answer for {} s; is it \
                     hanging? (`docker version` will show the same; restart the engine)",
                    host.address,
                    host.source,
                    deadline.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(unreachable(&host, &error)),
            Ok(Ok(found)) => found,
        };
        let api = version.api_version.unwrap_or_default();
        let version = version.version.unwrap_or_else(|| "?".into());
        if parse_version(&api) < (1, 41) {
            return Err(Error::Infrastructure(format!(
                "the Docker engine at {} is {version} (API {api}); meta-lava needs API 1.41, which is engine \
                 20.10, or newer",
                host.address
            )));
        }
        tracing::debug!(host = host.address, version, api, "connected to the engine");
        Ok(Self { docker, host, version, api })
    }

    /// Its address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
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
            Err(_) => Err(Error::Infrastructure(format!(
                "the Docker engine at {} does not answer any more, not within {} s",
                self.host.address,
                CONNECT.as_secs()
            ))),
        }
    }

    /// Asks what kind of engine it is.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not say, or is not for Linux containers.
    pub async fn preflight(&self) -> Result<Preflight> {
        let info = tokio::time::timeout(CONNECT, self.docker.info())
            .await
            .map_err(|_| {
                Error::Infrastructure(format!(
                    "the Docker engine at {} answers, but not to `docker info` in {} s; it is overloaded or \
                     its storage hangs",
                    self.host.address,
                    CONNECT.as_secs()
                ))
            })?
            .map_err(|error| fault("ask the Docker engine about itself", &error))?;
        let os = info.os_type.unwrap_or_default();
        if os != "linux" {
            return Err(Error::Infrastructure(format!(
                "the Docker engine at {} runs {os} containers; meta-lava needs Linux containers",
                self.host.address
            )));
        }
        let data_root = PathBuf::from(info.docker_root_dir.unwrap_or_default());
        Ok(Preflight {
            version: self.version.clone(),
            api: self.api.clone(),
            architecture: docker_architecture(&info.architecture.unwrap_or_default()),
            os,
            storage_driver: info.driver.unwrap_or_default(),
            cpus: usize::try_from(info.ncpu.unwrap_or_default()).unwrap_or_default(),
            memory: u64::try_from(info.mem_total.unwrap_or_default()).unwrap_or_default(),
            disk_free: self.host.is_local().then(|| disk_free(&data_root)).flatten(),
            data_root,
        })
    }
}

/// Which engine to use, as the `docker` command would choose it: `DOCKER_HOST`,
/// then `DOCKER_CONTEXT` or the current context, then the default socket. With
/// `DOCKER_TLS_VERIFY` or `DOCKER_TLS` over TLS, unless a context is used, which
/// says that itself.
///
/// # Errors
/// [`Error::Usage`] when a context is named that does not exist.
pub fn host() -> Result<Host> {
    choose_host(|name| std::env::var_os(name), std::env::home_dir().as_deref())
}

fn choose_host(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Result<Host> {
    // Docker takes an empty variable for none.
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    let text = |name| variable(name).and_then(|value| value.into_string().ok());
    let config = variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home?.join(".docker")));
    let tls = || {
        // Any value asks for it, also 0.
        let name = ["DOCKER_TLS_VERIFY", "DOCKER_TLS"].into_iter().find(|name| variable(name).is_some())?;
        match variable("DOCKER_CERT_PATH") {
            Some(folder) => Some(Tls { folder: folder.into(), by: By::Variable(name) }),
            None => Some(Tls { folder: config.clone()?, by: By::VariableAlone(name) }),
        }
    };
    if let Some(address) = text("DOCKER_HOST") {
        let tls = is_tcp(&address).then(tls).flatten();
        return Ok(Host { address, source: "from DOCKER_HOST".into(), tls });
    }
    let current = text("DOCKER_CONTEXT").or_else(|| {
        let text = std::fs::read_to_string(config.as_ref()?.join("config.json")).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(value.get("currentContext")?.as_str()?.to_owned())
    });
    match (current, &config) {
        (Some(name), Some(config)) if name != "default" => of_context(&name, config),
        _ => Ok(match tls() {
            Some(tls) => Host {
                address: DEFAULT_TLS_HOST.into(),
                source: "the default with TLS".into(),
                tls: Some(tls),
            },
            None => Host { address: DEFAULT_HOST.into(), source: "the default socket".into(), tls: None },
        }),
    }
}

fn of_context(name: &str, config: &Path) -> Result<Host> {
    let id = hex::encode(Sha256::digest(name.as_bytes()));
    let path = config.join("contexts/meta").join(&id).join("meta.json");
    let endpoint = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .and_then(|meta| meta.pointer("/Endpoints/docker").cloned())
        .unwrap_or_default();
    let Some(address) = endpoint.get("Host").and_then(serde_json::Value::as_str) else {
        return Err(Error::Usage(format!(
            "Docker's current context is {name:?}, but {} does not tell its address; set DOCKER_HOST, or choose \
             another with `docker context use`",
            path.display()
        )));
    };
    let unverified = endpoint.get("SkipTLSVerify").and_then(serde_json::Value::as_bool) == Some(true);
    Ok(Host {
        address: address.to_owned(),
        source: format!("from Docker's context {name:?}"),
        tls: is_tcp(address).then(|| Tls::of_context(config, &id, name, unverified)).flatten(),
    })
}

fn is_tcp(address: &str) -> bool {
    address.starts_with("tcp://") || address.starts_with("http://")
}

fn open(host: &Host) -> Result<bollard::Docker> {
    let version = bollard::API_DEFAULT_VERSION;
    let address = host.address.as_str();
    let opened = if let Some(path) = address.strip_prefix("unix://") {
        if !Path::new(path).exists() {
            return Err(Error::Infrastructure(format!(
                "no Docker engine: {path} ({}) does not exist; install and start Docker (Debian: `apt install \
                 docker.io docker-compose`), or set DOCKER_HOST to an engine elsewhere",
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
    Error::Infrastructure(format!(
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
    Error::Infrastructure(format!("could not {attempt}: {said}"))
}

/// Whether the engine said that the thing is not there.
pub(super) fn is_missing(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The filter that the engine takes for one label.
pub(super) fn label_filter(label: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label.to_owned()])])
}

fn parse_version(text: &str) -> (u32, u32) {
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

    /// The choice with these variables and no others.
    fn chosen(variables: &[(&str, &str)], home: &Path) -> Result<Host> {
        let value = |name: &str| Some(variables.iter().find(|(key, _)| *key == name)?.1.into());
        choose_host(value, Some(home))
    }

    /// Makes a context `lab` with this endpoint; its folder of TLS files.
    fn make_context(config: &Path, endpoint: &str) -> PathBuf {
        let id = hex::encode(Sha256::digest(b"lab"));
        let meta = config.join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = format!(r#"{{"Endpoints": {{"docker": {endpoint}}}}}"#);
        std::fs::write(meta.join("meta.json"), text).unwrap();
        config.join("contexts/tls").join(id).join("docker")
    }

    #[test]
    fn the_variable_wins_then_the_context_then_the_socket() {
        let home = tempfile::tempdir().unwrap();
        let (home, config) = (home.path(), home.path().join(".docker"));
        assert_eq!(chosen(&[], home).unwrap().address, DEFAULT_HOST);
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("config.json"), r#"{"currentContext": "lab"}"#).unwrap();
        assert!(chosen(&[], home).unwrap_err().to_string().contains("\"lab\""));
        make_context(&config, r#"{"Host": "unix:///x.sock"}"#);
        assert_eq!(chosen(&[], home).unwrap().address, "unix:///x.sock");
        assert_eq!(chosen(&[("DOCKER_HOST", "")], home).unwrap().address, "unix:///x.sock");
        assert_eq!(chosen(&[("DOCKER_CONTEXT", "default")], home).unwrap().address, DEFAULT_HOST);
        let named = chosen(&[("DOCKER_HOST", "tcp://10.0.0.1:2375")], home).unwrap();
        assert_eq!((named.address.as_str(), &named.tls), ("tcp://10.0.0.1:2375", &None));
        assert!(!named.is_local());
    }

    #[test]
    fn a_variable_asks_for_tls_with_the_files_of_docker_cert_path_or_of_dockers_folder() {
        let home = Path::new("/home/user");
        let tcp = ("DOCKER_HOST", "tcp://docker:2376");
        let tls = |variables: &[(&str, &str)]| chosen(variables, home).unwrap().tls;
        let path = ("DOCKER_CERT_PATH", "/certs/client");
        assert_eq!(tls(&[tcp, path]), None, "the folder alone asks for nothing");
        assert_eq!(tls(&[tcp, path, ("DOCKER_TLS_VERIFY", ""), ("DOCKER_TLS", "")]), None);
        for (name, value) in [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_TLS_VERIFY", "0"), ("DOCKER_TLS", "1")] {
            let found = tls(&[tcp, path, (name, value)]).unwrap();
            assert_eq!(found, Tls { folder: "/certs/client".into(), by: By::Variable(name) });
            let found = tls(&[tcp, (name, value)]).unwrap();
            assert_eq!(found, Tls { folder: "/home/user/.docker".into(), by: By::VariableAlone(name) });
            let found = tls(&[tcp, (name, value), ("DOCKER_CONFIG", "/etc/docker-client")]).unwrap();
            assert_eq!(found.folder, Path::new("/etc/docker-client"));
        }
    }

    #[test]
    fn a_socket_is_never_spoken_to_over_tls_and_the_default_with_tls_is_a_port() {
        let home = tempfile::tempdir().unwrap();
        let verify = ("DOCKER_TLS_VERIFY", "1");
        let named = chosen(&[verify, ("DOCKER_HOST", "unix:///x.sock")], home.path()).unwrap();
        assert_eq!(named.tls, None);
        let default = chosen(&[verify], home.path()).unwrap();
        assert_eq!(default.address, DEFAULT_TLS_HOST);
        assert!(default.tls.is_some());
    }

    #[test]
    fn a_context_says_itself_whether_it_is_reached_over_tls() {
        let home = tempfile::tempdir().unwrap();
        let (home, config) = (home.path(), home.path().join(".docker"));
        let lab = ("DOCKER_CONTEXT", "lab");
        let files = make_context(&config, r#"{"Host": "tcp://lab:2376"}"#);
        assert_eq!(chosen(&[lab, ("DOCKER_TLS_VERIFY", "1")], home).unwrap().tls, None);
        let by = By::Context("lab".into());
        make_context(&config, r#"{"Host": "tcp://lab:2376", "SkipTLSVerify": true}"#);
        let tls = chosen(&[lab], home).unwrap().tls;
        assert_eq!(tls, Some(Tls { folder: files.clone(), by: by.clone() }), "it is verified all the same");
        make_context(&config, r#"{"Host": "tcp://lab:2376", "SkipTLSVerify": false}"#);
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("ca.pem"), "").unwrap();
        let tls = chosen(&[lab, ("DOCKER_CERT_PATH", "/elsewhere")], home).unwrap().tls;
        assert_eq!(tls, Some(Tls { folder: files, by }));
    }

    #[test]
    fn another_program_gets_the_same_engine_with_the_same_files_and_nothing_else() {
        let given = |tls: Option<Tls>| {
            let mut command = tokio::process::Command::new("docker-compose");
            command.env("DOCKER_TLS", "1").env("DOCKER_CERT_PATH", "/elsewhere").env("DOCKER_CONTEXT", "lab");
            Host { address: "tcp://docker:2376".into(), source: String::new(), tls }.hand_to(&mut command);
            let mut found: Vec<String> = command
                .as_std()
                .get_envs()
                .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)))
                .collect();
            found.sort();
            found
        };
        assert_eq!(given(None), ["DOCKER_HOST=tcp://docker:2376"]);
        let tls = Tls { folder: "/certs/client".into(), by: By::Context("lab".into()) };
        assert_eq!(
            given(Some(tls)),
            ["DOCKER_CERT_PATH=/certs/client", "DOCKER_HOST=tcp://docker:2376", "DOCKER_TLS_VERIFY=1"]
        );
    }

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
