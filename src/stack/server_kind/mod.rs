//! Kinds of server images: how each wants to be started, and what it does not have
//! of its own. A kind is a file here and a line in [`KINDS`].

pub mod own;
pub mod upstream;

use std::time::Duration;

use crate::error::{Error, Result};

/// A kind of server image.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerKind {
    /// What it is, for messages.
    pub name: &'static str,
    /// The program of its entrypoint: by this an image is known to be of the kind.
    pub entrypoint: &'static str,
    /// A file in `compose/` that is laid over `compose.yaml`.
    pub overlay: Option<&'static str>,
    /// Whether its administrator is only made with a password.
    pub needs_password: bool,
    /// Files of a run that it does not bring along: path below `/etc/lava-server`, and
    /// the file in `compose/` that is put there once it runs.
    pub configuration: &'static [(&'static str, &'static str)],
    /// How long it may take until it answers.
    pub ready: Duration,
}

/// All kinds.
pub const KINDS: [&ServerKind; 2] = [&own::KIND, &upstream::KIND];

/// The kind of the image `name`, whose entrypoint is `entrypoint`.
///
/// # Errors
/// [`Error::Usage`] when it is of none that is known.
pub fn of_image(name: &str, entrypoint: &[String]) -> Result<&'static ServerKind> {
    let kind = KINDS.into_iter().find(|kind| entrypoint.iter().any(|word| word == kind.entrypoint));
    kind.ok_or_else(|| {
        let known: Vec<String> =
            KINDS.iter().map(|kind| format!("{} ({})", kind.entrypoint, kind.name)).collect();
        Error::Usage(format!(
            "{name} is no image of a LAVA server that is known how to start: its entrypoint is {entrypoint:?}, \
             and the known ones are {}",
            known.join(" and ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_the_entrypoint() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(of_image("x", &words(&["/root/entrypoint.sh"])).unwrap(), &upstream::KIND);
        assert_eq!(of_image("x", &words(&["python3", own::KIND.entrypoint])).unwrap(), &own::KIND);
        let said = of_image("nginx", &words(&["/docker-entrypoint.sh"])).unwrap_err().to_string();
        assert!(said.contains("nginx") && said.contains("/docker-entrypoint.sh"), "{said}");
        assert!(said.contains("/root/entrypoint.sh"), "{said}");
    }

    #[test]
    fn what_a_kind_names_is_in_the_repository() {
        let compose = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("compose");
        for kind in KINDS {
            let files = kind.overlay.into_iter().chain(kind.configuration.iter().map(|(_, file)| *file));
            for file in files {
                assert!(compose.join(file).is_file(), "{}: {file}", kind.name);
            }
        }
    }
}
