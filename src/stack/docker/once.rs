//! A command in a container that is there for it alone.

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::StartContainerOptions;

use super::Engine;
use super::engine::fault;
use super::exec::Output;
use super::objects::{Kind, Object};
use crate::error::Result;

/// Seconds that such a container stays, whoever has died meanwhile; it removes itself.
const LIFE: &str = "300";

impl Engine {
    /// Runs a command in a container of `image`, which has to have `sleep`, and waits for it.
    ///
    /// # Errors
    /// [`crate::error::Error::Infrastructure`] when it could not be started or watched.
    pub async fn run_once(&self, image: &str, command: &[&str]) -> Result<Output> {
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["sleep".into(), LIFE.into()]),
            cmd: Some(Vec::new()),
            env: Some(proxies()),
            host_config: Some(HostConfig { auto_remove: Some(true), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let failed = |error| fault(&format!("start a container of {image}"), &error);
        let id = self.docker.create_container(None, body).await.map_err(failed)?.id;
        let started = self.docker.start_container(&id, None::<StartContainerOptions>).await;
        let output = match started {
            Ok(()) => self.exec(&id, command, None).await,
            Err(error) => Err(failed(error)),
        };
        let name = id.clone();
        let container = Object { kind: Kind::Container, id, name, labels: std::collections::HashMap::new() };
        if let Err(error) = self.remove(&container).await {
            tracing::debug!(%error, "it removes itself later");
        }
        output
    }
}

/// The way to the network that this process has.
fn proxies() -> Vec<String> {
    let names = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
    let set = names.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    set.map(|(name, value)| format!("{name}={value}")).collect()
}
