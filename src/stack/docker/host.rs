//! Which engine: its address, who said so, and the files for TLS.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Where the engine listens unless told otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// Where it listens unless told otherwise, when it is asked for over TLS.
const DEFAULT_TLS_HOST: &str = "tcp://localhost:2376";

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

    /// Whether its address is a port of this machine, behind which it may still be anywhere.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let rest = self.address.split_once("://").map_or("", |(_, rest)| rest);
        let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host).trim_matches(['[', ']']);
        is_tcp(&self.address)
            && (host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()))
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

/// Where the certificates and the key of a connection are. Only that: what is in
/// the files is read by who connects, and is never told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The folder that has them, under the names that Docker gives them.
    pub folder: PathBuf,
    /// Who asks for TLS.
    pub by: By,
}

/// Who asks for TLS, and for certificates from a folder; for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The variable that asks; the folder is `DOCKER_CERT_PATH`.
    Variable(&'static str),
    /// The variable that asks; the folder is Docker's own, for want of `DOCKER_CERT_PATH`.
    VariableAlone(&'static str),
    /// A context of Docker's, which has them beside it.
    Context(String),
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

/// Whether an address is of a port, not of a socket.
pub(super) fn is_tcp(address: &str) -> bool {
    address.starts_with("tcp://") || address.starts_with("http://")
}

#[cfg(test)]
mod tests {
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
        assert!(!named.is_local() && !named.is_loopback());
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
    fn a_port_of_this_machine_is_known() {
        let is_loopback =
            |address: &str| Host { address: address.into(), source: String::new(), tls: None }.is_loopback();
        for address in
            ["tcp://127.0.0.1:2375", "tcp://localhost:2376", "tcp://[::1]:2375", "http://127.0.0.1"]
        {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["tcp://docker:2376", "tcp://10.0.0.1:2375", "unix:///127.0.0.1", "127.0.0.1"] {
            assert!(!is_loopback(address), "{address}");
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
}
