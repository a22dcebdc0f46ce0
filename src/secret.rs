//! Secrets of a run: random, and never printed by accident.

use rand::Rng;
use rand::distr::Alphanumeric;

/// Placeholder of what nobody may read.
pub const TOKEN: &str = "[TOKEN]";

/// A secret. `Debug` does not show it; only [`Secret::reveal`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one: 40 letters and digits.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::rng().sample_iter(Alphanumeric).take(40).map(char::from).collect())
    }

    /// One that came from somewhere.
    #[must_use]
    pub fn known(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_hide() {
        let (a, b) = (Secret::random(), Secret::random());
        assert_ne!(a, b);
        assert_eq!(a.reveal().len(), 40);
        assert!(!format!("{a:?}").contains(a.reveal()));
    }
}
