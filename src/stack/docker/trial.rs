//! The smallest container: made of a tar, started, waited for, asked for one file.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{ListImagesOptionsBuilder, StartContainerOptions, WaitContainerOptions};
use bytes::Bytes;
use futures_util::StreamExt;

use super::Engine;
use super::engine::{fault, label_filter};
use super::objects::{Kind, Object};
use crate::error::{Error, Result};
use crate::stack::sweep::{OWNER, PURPOSE, Purpose, RUN, STARTED};
use crate::stack::trial::Allowed;

/// Bytes of the file that is asked for.
const FILE: u64 = 1 << 20;

/// What to try.
pub struct Smallest {
    /// `name:tag` of its image.
    pub image: String,
    /// The image's only layer.
    pub tar: Vec<u8>,
    /// What to run.
    pub command: Vec<String>,
    /// Labels of the container; the image has the one of its owner.
    pub labels: HashMap<String, String>,
}

impl Engine {
    /// Imports the image, runs the container to its end, and takes a file out of it. Removes
    /// neither: by their labels a sweep does.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] with what the engine refused, or what the container said.
    pub async fn try_smallest(
        &self,
        what: Smallest,
        allowed: &Allowed,
        file: &str,
        deadline: Duration,
    ) -> Result<Vec<u8>> {
        // Podman takes one label at an import, and the tag only with the name.
        let label = |key: &str| Some(format!("LABEL {key}={}", what.labels.get(key)?));
        let labels = label(OWNER).into_iter().collect();
        let tar = futures_util::stream::iter([Ok(Bytes::from(what.tar))]);
        self.import_with(&what.image, "", tar, labels).await?;
        let body = ContainerCreateBody {
            image: Some(what.image.clone()),
            cmd: Some(what.command),
            labels: Some(what.labels),
            volumes: Some(allowed.volumes.clone()),
            host_config: Some(host_config(allowed)),
            ..ContainerCreateBody::default()
        };
        let failed = "start a container that is allowed what a worker is";
        let container =
            self.docker.create_container(None, body).await.map_err(|error| fault(failed, &error))?.id;
        self.docker
            .start_container(&container, None::<StartContainerOptions>)
            .await
            .map_err(|error| fault(failed, &error))?;
        let end = async { self.docker.wait_container(&container, None::<WaitContainerOptions>).next().await };
        match tokio::time::timeout(deadline, end).await {
            // A code other than 0 comes as an error; the container's words are better.
            Ok(_) => {}
            Err(_) => {
                return Err(Error::infrastructure(format!(
                    "the trial container did not end within {} s",
                    deadline.as_secs()
                )));
            }
        }
        match self.download(&container, file, FILE).await? {
            Some(files) if !files.is_empty() => {
                Ok(files.into_iter().next().map(|file| file.content).unwrap_or_default())
            }
            _ => Err(Error::infrastructure("the trial container ended without its report")
                .with_last_words(self.log_tail(&container, 10).await?)),
        }
    }
}

impl Engine {
    /// The images `repository:RUN` of trials, as things of their runs.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when the engine refuses.
    pub async fn trial_images(&self, repository: &str) -> Result<Vec<Object>> {
        let options = ListImagesOptionsBuilder::default().filters(&label_filter(OWNER)).build();
        let found =
            self.docker.list_images(Some(options)).await.map_err(|error| fault("list images", &error))?;
        Ok(found
            .into_iter()
            .filter_map(|image| {
                let name = image.repo_tags.into_iter().find(|tag| tag.contains(repository))?;
                let mut labels = image.labels;
                labels.insert(RUN.into(), name.rsplit_once(':')?.1.to_owned());
                labels.insert(PURPOSE.into(), Purpose::Run.word().into());
                labels.insert(STARTED.into(), image.created.to_string());
                Some(Object { kind: Kind::Image, id: image.id, name, labels })
            })
            .collect())
    }
}

fn host_config(allowed: &Allowed) -> HostConfig {
    let tmpfs = allowed.tmpfs.iter().map(|tmpfs| {
        let (path, options) = tmpfs.split_once(':').unwrap_or((tmpfs, ""));
        (path.to_owned(), options.to_owned())
    });
    HostConfig {
        cap_add: Some(allowed.cap_add.clone()),
        security_opt: Some(allowed.security_opt.clone()),
        tmpfs: Some(tmpfs.collect()),
        pids_limit: Some(allowed.pids_limit),
        init: Some(allowed.init),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_allowed_what_compose_would_allow_it() {
        let allowed = Allowed {
            cap_add: vec!["SYS_ADMIN".into()],
            security_opt: vec!["apparmor:unconfined".into()],
            tmpfs: vec!["/a:exec,mode=755".into(), "/b".into()],
            volumes: Vec::new(),
            pids_limit: 7,
            init: true,
        };
        let config = host_config(&allowed);
        let tmpfs = config.tmpfs.unwrap();
        assert_eq!((tmpfs["/a"].as_str(), tmpfs["/b"].as_str()), ("exec,mode=755", ""));
        assert_eq!((config.init, config.pids_limit, config.privileged), (Some(true), Some(7), None));
    }
}
