//! Containers, networks, volumes and images: finding, watching, removing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bollard::models::{ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
    StatsOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::Engine;
use super::engine::{fault, is_missing, label_filter};
use crate::error::{Error, Result};
use crate::text::printable;

/// What kind of thing the engine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A container, running or not.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// An image.
    Image,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Image => "image",
        })
    }
}

/// A thing that the engine keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Kind.
    pub kind: Kind,
    /// What the engine's API knows it by.
    pub id: String,
    /// What a human knows it by.
    pub name: String,
    /// Labels.
    pub labels: HashMap<String, String>,
}

/// A container, as a list of them tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Id.
    pub id: String,
    /// Name, without the leading slash.
    pub name: String,
    /// Service of the Compose project.
    pub service: String,
    /// Number among the containers of that service, from 1.
    pub number: usize,
    /// Whether it is running.
    pub running: bool,
    /// `Up 3 seconds`, `Exited (1) 2 seconds ago`.
    pub status: String,
    /// Private port to the port of the engine's machine it is published on.
    pub ports: HashMap<u16, u16>,
    /// Names of the volumes that it has.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: HashMap<String, String>,
    /// Address in its network; empty when it does not run.
    pub address: String,
}

/// An image of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Id.
    pub id: String,
    /// All its `name:tag`.
    pub tags: Vec<String>,
    /// Seconds since 1970 when it was made.
    pub created: i64,
}

/// Bytes that are read of a log for its last lines, which may be of any length.
const LAST_WORDS: usize = 1 << 20;
/// Bytes that are kept of a log.
const LOG: usize = 64 << 20;

/// The end of a stream of any length.
struct Ending {
    bytes: VecDeque<u8>,
    limit: usize,
    dropped: usize,
}

impl Ending {
    /// Of at most `limit` bytes.
    fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), limit, dropped: 0 }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.dropped += over;
    }

    /// As text, which begins with a whole line.
    fn text(mut self) -> String {
        if self.dropped == 0 {
            return String::from_utf8_lossy(self.bytes.make_contiguous()).into_owned();
        }
        let line = self.bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.bytes.drain(..line);
        let rest = String::from_utf8_lossy(self.bytes.make_contiguous()).into_owned();
        format!("[the first {} bytes are left out]\n{rest}", self.dropped + line)
    }
}

/// A log without the secrets in the environment that its container was given, which some
/// images print.
fn without_secrets(mut log: String, environment: &[String]) -> String {
    for variable in environment {
        if let Some((name, value)) = variable.split_once('=')
            && (name.ends_with("_TOKEN") || name.ends_with("_PASSWORD"))
            && !value.is_empty()
        {
            log = log.replace(value, &format!("[{name}]"));
        }
    }
    log
}

impl Engine {
    /// Containers with a label (`key` or `key=value`), running or not.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn containers(&self, label: &str) -> Result<Vec<Container>> {
        let mut containers: Vec<Container> = self
            .listed(Some(label))
            .await?
            .into_iter()
            .map(|found| {
                let labels = found.labels.unwrap_or_default();
                let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
                Container {
                    id: found.id.unwrap_or_default(),
                    name: found
                        .names
                        .unwrap_or_default()
                        .first()
                        .map_or_else(String::new, |name| name.trim_start_matches('/').to_owned()),
                    service: label("com.docker.compose.service"),
                    number: label("com.docker.compose.container-number").parse().unwrap_or(0),
                    running: found.state == Some(ContainerSummaryStateEnum::RUNNING),
                    status: found.status.unwrap_or_default(),
                    ports: found
                        .ports
                        .unwrap_or_default()
                        .into_iter()
                        .filter_map(|port| Some((port.private_port, port.public_port?)))
                        .collect(),
                    address: found
                        .network_settings
                        .and_then(|settings| settings.networks)
                        .and_then(|networks| networks.into_values().find_map(|network| network.ip_address))
                        .unwrap_or_default(),
                    volumes: found
                        .mounts
                        .unwrap_or_default()
                        .into_iter()
                        .filter_map(|mount| mount.name)
                        .collect(),
                    labels,
                }
            })
            .collect();
        containers.sort_by(|a, b| (&a.service, a.number, &a.name).cmp(&(&b.service, b.number, &b.name)));
        Ok(containers)
    }

    /// Everything but images that has a label (`key` or `key=value`), in the
    /// order in which it can be removed.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn objects(&self, label: &str) -> Result<Vec<Object>> {
        let filters = label_filter(label);
        let containers = self.containers(label);
        let networks =
            self.docker.list_networks(Some(ListNetworksOptionsBuilder::default().filters(&filters).build()));
        let volumes =
            self.docker.list_volumes(Some(ListVolumesOptionsBuilder::default().filters(&filters).build()));
        let (containers, networks, volumes) = tokio::join!(containers, networks, volumes);
        let networks = networks.map_err(|error| fault("list networks", &error))?;
        let volumes = volumes.map_err(|error| fault("list volumes", &error))?;
        let mut objects: Vec<Object> = containers?
            .into_iter()
            .map(|found| Object {
                kind: Kind::Container,
                id: found.id,
                name: found.name,
                labels: found.labels,
            })
            .collect();
        objects.extend(networks.into_iter().map(|found| Object {
            kind: Kind::Network,
            id: found.id.unwrap_or_default(),
            name: found.name.unwrap_or_default(),
            labels: found.labels.unwrap_or_default(),
        }));
        objects.extend(volumes.volumes.unwrap_or_default().into_iter().map(|found| Object {
            kind: Kind::Volume,
            id: found.name.clone(),
            name: found.name,
            labels: found.labels,
        }));
        Ok(objects)
    }

    /// Removes one thing, running or not; that it is already gone is no error. What the engine is
    /// removing already, or keeps for a container that it is removing, is waited for: two runs
    /// may find what a third one left.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn remove(&self, object: &Object) -> Result<()> {
        /// How long another one's removal of a container may take.
        const ANOTHER: Duration = Duration::from_secs(10);
        let deadline = tokio::time::Instant::now() + ANOTHER;
        // The engine tells of no removal that is under way: all there is is to ask again.
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            match self.try_to_remove(object).await {
                Ok(()) => return Ok(()),
                Err(error) if is_missing(&error) => return Ok(()),
                Err(error) if is_being_removed(&error) && tokio::time::Instant::now() < deadline => {}
                Err(error) => return Err(fault(&format!("remove {} {}", object.kind, object.name), &error)),
            }
        }
    }

    async fn try_to_remove(&self, object: &Object) -> std::result::Result<(), bollard::errors::Error> {
        match object.kind {
            Kind::Container => {
                let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
                self.docker.remove_container(&object.id, Some(options)).await
            }
            Kind::Network => self.docker.remove_network(&object.id).await,
            Kind::Volume => {
                let options = RemoveVolumeOptionsBuilder::default().force(true).build();
                self.docker.remove_volume(&object.id, Some(options)).await
            }
            Kind::Image => {
                let options = RemoveImageOptionsBuilder::default().build();
                self.docker.remove_image(&object.id, Some(options), None).await.map(|_| ())
            }
        }
    }

    /// Images by a pattern of their names, such as `meta-lava/*`.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn images(&self, pattern: &str) -> Result<Vec<Image>> {
        let filters = HashMap::from([("reference", vec![pattern])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let found =
            self.docker.list_images(Some(options)).await.map_err(|error| fault("list images", &error))?;
        Ok(found
            .into_iter()
            .map(|image| Image {
                id: image.id,
                tags: image.repo_tags.into_iter().filter(|tag| tag != "<none>:<none>").collect(),
                created: image.created,
            })
            .collect())
    }

    /// Names of all volumes, whoever's.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn volume_names(&self) -> Result<Vec<String>> {
        let found = self
            .docker
            .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
            .await
            .map_err(|error| fault("list volumes", &error))?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    /// Names and ids of the images that any container on the engine uses.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn containers_images(&self) -> Result<HashSet<String>> {
        let found = self.listed(None).await?;
        Ok(found.into_iter().flat_map(|container| [container.image, container.image_id]).flatten().collect())
    }

    /// The id of an image, `None` when the engine does not have it.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine does not answer.
    pub async fn image_id(&self, name: &str) -> Result<Option<String>> {
        match self.docker.inspect_image(name).await {
            Ok(found) => Ok(found.id),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(fault(&format!("look at image {name}"), &error)),
        }
    }

    /// The entrypoint of an image, word by word; none when it has none.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine does not have the image or does not answer.
    pub async fn image_entrypoint(&self, name: &str) -> Result<Vec<String>> {
        let found = self.docker.inspect_image(name).await;
        let image = found.map_err(|error| fault(&format!("look at image {name}"), &error))?;
        Ok(image.config.and_then(|config| config.entrypoint).unwrap_or_default())
    }

    /// The last `lines` lines that a container logged, both streams as they came, as far as they
    /// are in its last MiB; without the secrets that it was given.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn log_tail(&self, container: &str, lines: usize) -> Result<String> {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        self.collect_log(container, options, LAST_WORDS).await
    }

    /// All that a container logged, with times; of more than 64 MiB the end, and a line that says
    /// so. Without the secrets that it was given.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn log(&self, container: &str) -> Result<String> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).build();
        self.collect_log(container, options, LOG).await
    }

    async fn collect_log(
        &self,
        container: &str,
        options: bollard::query_parameters::LogsOptions,
        limit: usize,
    ) -> Result<String> {
        let what = format!("read the log of container {container}");
        let failed = |error| fault(&what, &error);
        let mut stream = self.docker.logs(container, Some(options));
        let mut log = Ending::new(limit);
        while let Some(chunk) = stream.next().await {
            log.push(&chunk.map_err(failed)?.into_bytes());
        }
        let found = self.inspected(container, &what).await?;
        let environment = found.config.and_then(|config| config.env).unwrap_or_default();
        Ok(without_secrets(log.text(), &environment))
    }

    /// Processor time that all processes of a container have spent since it was started.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses, or counts nothing.
    pub async fn cpu_time(&self, container: &str) -> Result<Duration> {
        let what = || format!("ask for the statistics of container {container}");
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stream = std::pin::pin!(self.docker.stats(container, Some(options)));
        let stats = match stream.next().await {
            Some(stats) => stats.map_err(|error| fault(&what(), &error))?,
            None => return Err(Error::failed(what(), "there are none")),
        };
        stats
            .cpu_stats
            .and_then(|cpu| cpu.cpu_usage?.total_usage)
            .map(Duration::from_nanos)
            .ok_or_else(|| Error::failed(what(), "no processor time"))
    }

    /// The engine's events on containers with a label, from now on.
    pub fn container_events(
        &self,
        label: &str,
    ) -> BoxStream<'static, Result<EventMessage, bollard::errors::Error>> {
        let mut filters = label_filter(label);
        filters.insert("type".into(), vec!["container".into()]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let docker = self.docker.clone();
        // The stream borrows the client, so it takes it along.
        Box::pin(async_stream(docker, options))
    }
}

fn async_stream(
    docker: bollard::Docker,
    options: bollard::query_parameters::EventsOptions,
) -> impl futures_util::Stream<Item = Result<EventMessage, bollard::errors::Error>> + Send + 'static {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        let mut events = docker.events(Some(options));
        loop {
            tokio::select! {
                () = sender.closed() => break,
                event = events.next() => match event {
                    Some(event) => if sender.send(event).await.is_err() { break },
                    None => break,
                },
            }
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (event, receiver))
    })
}

/// The last `count` lines of a text, without the blank ones at its end, and fit
/// for a terminal, since a program in a container may have written anything.
#[must_use]
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(count)..];
    last.iter().map(|line| printable(line.trim_end())).collect::<Vec<_>>().join("\n")
}

/// Whether the engine refused a removal for one that is under way (moby's `daemon/delete.go`), or
/// for a container that still holds on to the thing (`libnetwork/network.go`, `volume/service`).
fn is_being_removed(error: &bollard::errors::Error) -> bool {
    let bollard::errors::Error::DockerResponseServerError { status_code, message } = error else {
        return false;
    };
    match status_code {
        409 => message.contains("already in progress") || message.contains("volume is in use"),
        403 => message.contains("has active endpoints"),
        _ => false,
    }
}

/// Says [`Error::Infrastructure`] for several failures at once.
///
/// # Errors
/// When there is any.
pub fn all(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let failures: Vec<String> =
        results.into_iter().filter_map(|result| result.err().map(|error| error.to_string())).collect();
    if failures.is_empty() { Ok(()) } else { Err(Error::infrastructure(failures.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_one_is_removing_is_asked_for_again_and_what_is_refused_is_not() {
        let refused = |status_code, message: &str| {
            is_being_removed(&bollard::errors::Error::DockerResponseServerError {
                status_code,
                message: message.into(),
            })
        };
        assert!(refused(409, "removal of container 1a is already in progress"));
        assert!(refused(409, "remove v: volume is in use - [1a]"));
        assert!(refused(403, "error while removing network: network n has active endpoints (name:\"s\")"));
        assert!(!refused(403, "authorization denied by plugin"));
        assert!(!refused(500, "removal of container 1a is already in progress"));
    }

    #[test]
    fn a_tail_is_the_last_lines_that_say_something() {
        assert_eq!(tail("a\nb\nc\n\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
        assert_eq!(tail("", 5), "");
        assert_eq!(tail("a\u{1b}[2J\r\nb", 2), "a\\x1b[2J\nb");
    }

    #[test]
    fn a_log_of_any_length_leaves_its_end() {
        let log = |limit, chunks: &[&str]| {
            let mut log = Ending::new(limit);
            for chunk in chunks {
                log.push(chunk.as_bytes());
                assert!(log.bytes.len() <= limit);
            }
            log.text()
        };
        assert_eq!(log(8, &["one\n", "two\n"]), "one\ntwo\n");
        assert_eq!(log(7, &["one\n", "two\n"]), "[the first 4 bytes are left out]\ntwo\n");
        assert_eq!(log(4, &["one\ntwo\nsix\nten\n"]), "[the first 16 bytes are left out]\n");
        assert_eq!(log(3, &["a", "line without an end"]), "[the first 17 bytes are left out]\nend");
    }

    #[test]
    fn a_log_tells_no_secret_of_its_container() {
        let given = ["PATH=/bin", "LAVA_ADMIN_TOKEN=s3cret", "LAVA_ADMIN_PASSWORD="].map(str::to_owned);
        let log = "token with secret s3cret in /bin".to_owned();
        assert_eq!(without_secrets(log, &given), "token with secret [LAVA_ADMIN_TOKEN] in /bin");
    }

    #[test]
    fn failures_are_told_together() {
        assert!(all([Ok(()), Ok(())]).is_ok());
        let error = all([Err(Error::infrastructure("x")), Ok(()), Err(Error::infrastructure("y"))]);
        assert_eq!(error.unwrap_err().to_string(), "x; y");
    }
}
