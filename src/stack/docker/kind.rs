//! Kinds of engines: which a run can't work on, and which it was never shown to work on.

use bollard::models::SystemVersion;

/// Why a run can't work on an engine with these security options, as `docker info` tells them
/// (`name=rootless`).
#[must_use]
pub(super) fn refusal(options: &[String]) -> Option<String> {
    let (kind, instead) = if has(options, "rootless") {
        ("is rootless", "one that runs as root")
    } else if has(options, "userns") {
        ("gives containers user ids of their own (userns-remap)", "one without it")
    } else {
        return None;
    };
    Some(format!(
        "{kind}: nfs-ganesha can't open files by handle in its containers, so no board would boot over NFS; use \
         {instead} (DOCKER_HOST, or `docker context use default`)"
    ))
}

/// What about an engine was never tried, or is not known of it.
#[must_use]
pub(super) fn untried(options: &[String], architecture: &str, is_podman: bool) -> Vec<String> {
    let mut untried = Vec::new();
    if is_podman {
        untried.push("Podman may be rootless without saying so".to_owned());
    }
    if has(options, "selinux") {
        untried.push("no run was ever tried where SELinux confines the containers".to_owned());
    }
    if has(options, "apparmor") {
        untried.push(
            "no run was ever tried where AppArmor is enforcing; it is switched off for the workers"
                .to_owned(),
        );
    }
    if architecture != "amd64" {
        untried.push(format!("no run was ever tried on {architecture}"));
    }
    untried
}

fn has(options: &[String], name: &str) -> bool {
    options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")))
}

/// Whether it is Podman that answers.
#[must_use]
pub(super) fn is_podman(version: &SystemVersion) -> bool {
    let components = version.components.as_deref().unwrap_or_default();
    components.iter().any(|component| component.name.to_lowercase().contains("podman"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_engine_in_a_user_namespace_is_refused_with_the_reason() {
        assert_eq!(refusal(&options(&["name=seccomp,profile=builtin", "name=cgroupns"])), None);
        let text = refusal(&options(&["name=seccomp,profile=builtin", "name=rootless"])).unwrap();
        assert!(text.contains("rootless") && text.contains("NFS"), "{text}");
        assert!(refusal(&options(&["name=userns"])).unwrap().contains("userns-remap"));
    }

    #[test]
    fn what_was_never_tried_is_said() {
        assert_eq!(untried(&options(&["name=seccomp,profile=builtin"]), "amd64", false), [""; 0]);
        let found = untried(&options(&["name=apparmor", "name=selinux"]), "arm64", true).join("; ");
        assert!(
            ["SELinux", "AppArmor", "arm64", "Podman"].iter().all(|word| found.contains(word)),
            "{found}"
        );
    }
}
