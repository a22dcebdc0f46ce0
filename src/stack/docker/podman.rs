//! Where Podman's answers are not Docker's: a container that has ended and that Podman has not
//! tidied up yet is `stopped`, which Docker has no such word for, so that the whole answer could
//! not be read. It has to be: one such container, whoever's, would keep a run from sweeping.

use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Engine;
use super::engine::{REQUEST, fault, label_filter};
use super::host::Host;
use crate::error::{Error, Result, chain};

/// Podman's word, and Docker's for what it means.
const ENDED: (&str, &str) = ("stopped", "exited");

impl Engine {
    /// Containers with a label (`key` or `key=value`), or all, running or not, as the engine lists them.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub(super) async fn listed(&self, label: Option<&str>) -> Result<Vec<ContainerSummary>> {
        let what = "list containers";
        let filters = label.map(label_filter).unwrap_or_default();
        if self.speaks_otherwise() {
            let filters = json!(filters).to_string();
            let path = "containers/json";
            return ask(self.host(), path, &[("all", "1"), ("filters", &filters)], what, |answer| {
                for container in answer.as_array_mut().into_iter().flatten() {
                    translate(container.get_mut("State"));
                }
            })
            .await;
        }
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.docker.list_containers(Some(options)).await.map_err(|error| fault(what, &error))
    }

    /// One container, in full.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses; `what` was to be done.
    pub(super) async fn inspected(&self, container: &str, what: &str) -> Result<ContainerInspectResponse> {
        if self.speaks_otherwise() {
            let path = format!("containers/{container}/json");
            return ask(self.host(), &path, &[], what, |answer| {
                translate(answer.pointer_mut("/State/Status"));
            })
            .await;
        }
        self.docker.inspect_container(container, None).await.map_err(|error| fault(what, &error))
    }

    /// Podman's own service speaks no TLS.
    fn speaks_otherwise(&self) -> bool {
        self.is_podman() && self.host().tls.is_none()
    }
}

fn translate(state: Option<&mut Value>) {
    if let Some(state) = state
        && state == ENDED.0
    {
        *state = json!(ENDED.1);
    }
}

/// What the engine answers, with Docker's words put in.
async fn ask<T: DeserializeOwned>(
    host: &Host,
    path: &str,
    query: &[(&str, &str)],
    what: &str,
    translate: impl Fn(&mut Value),
) -> Result<T> {
    let failed = |why: String| Error::failed(what, why);
    let unsent = |error: reqwest::Error| failed(chain(&error));
    let (client, server) = match host.address.split_once("://") {
        Some(("unix", socket)) => (reqwest::Client::builder().unix_socket(socket), "localhost"),
        Some((_, server)) => (reqwest::Client::builder().no_proxy(), server),
        None => return Err(failed(format!("{:?} is no address", host.address))),
    };
    let client = client.timeout(Duration::from_secs(REQUEST)).build().map_err(unsent)?;
    // The lowest version of the API that is asked of any engine.
    let url = format!("http://{server}/v1.41/{path}");
    let answer = client.get(url).query(query).send().await.map_err(unsent)?;
    let status = answer.status();
    let mut answer: Value = answer.json().await.map_err(unsent)?;
    if !status.is_success() {
        let said = answer.get("message").and_then(Value::as_str).unwrap_or_default();
        return Err(failed(format!("the engine said {}: {}", status.as_u16(), said.trim())));
    }
    translate(&mut answer);
    serde_json::from_value(answer).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bollard::models::{ContainerStateStatusEnum, ContainerSummaryStateEnum};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Podman 4.3's answers, shortened.
    const VERSION: &str = r#"{"Components": [{"Name": "Podman Engine", "Version": "4.3.1"}], "Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24"}"#;
    const LIST: &str = r#"[{"Id": "261d", "Names": ["/e1"], "State": "stopped", "Status": "Exited (0) 1 second ago"}, {"Id": "a161", "Names": ["/e2"], "State": "created"}]"#;
    const ONE: &str = r#"{"Id": "261d", "State": {"Status": "stopped", "Running": false}, "Config": {"Env": ["X=stopped"]}}"#;

    /// Answers as it does, each request on a connection of its own.
    async fn podman(listener: UnixListener) {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let count = client.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let (code, body) = if request.contains("/containers/json?all=1&filters=") {
                (200, LIST)
            } else if request.contains("/containers/261d/json") {
                (200, ONE)
            } else if request.contains("/containers/") {
                (404, r#"{"message": "no such container"}"#)
            } else {
                (200, VERSION)
            };
            let head = "Content-Type: application/json\r\nConnection: close\r\nApi-Version: 1.41";
            let answer =
                format!("HTTP/1.1 {code} X\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = client.write_all(answer.as_bytes()).await;
        }
    }

    #[tokio::test]
    async fn a_container_that_podman_calls_stopped_has_exited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        tokio::spawn(podman(UnixListener::bind(&path).unwrap()));
        let address = format!("unix://{}", path.display());
        let host = Host { address, source: "the test".into(), tls: None };
        let engine = Engine::connect_to(host, Duration::from_secs(60)).await.unwrap();
        let found: Vec<_> =
            engine.listed(Some("a=b")).await.unwrap().into_iter().map(|one| one.state).collect();
        assert_eq!(
            found,
            [Some(ContainerSummaryStateEnum::EXITED), Some(ContainerSummaryStateEnum::CREATED)]
        );
        let one = engine.inspected("261d", "look").await.unwrap();
        assert_eq!(one.state.unwrap().status, Some(ContainerStateStatusEnum::EXITED));
        assert_eq!(one.config.unwrap().env.unwrap(), ["X=stopped"]);
        let error = engine.inspected("none", "look at it").await.unwrap_err().to_string();
        assert_eq!(error, "could not look at it: the engine said 404: no such container");
    }
}
