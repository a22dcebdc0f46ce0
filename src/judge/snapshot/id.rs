//! Which snapshot: of which scenario, which series of LAVA, and what of it.

use std::fmt;
use std::path::PathBuf;

use super::Kind;
use crate::lava::series::Series;
use crate::scenario::Scenario;

/// The series of LAVA whose snapshots lie directly in a scenario's folder.
const PLAIN: Series = Series::OLDEST;

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The scenario's suite.
    pub suite: String,
    /// The scenario's name.
    pub name: String,
    /// Of which series of LAVA it is.
    pub series: Series,
    /// What of it.
    pub kind: Kind,
}

impl Id {
    /// Of `scenario`.
    #[must_use]
    pub fn of(scenario: &Scenario, series: Series, kind: Kind) -> Self {
        Self { suite: scenario.suite.clone(), name: scenario.name.clone(), series, kind }
    }

    /// Reads what [`fmt::Display`] writes: `suite/name/log`, or `suite/name/2026.10/log`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (suite, name, series, kind) = match parts.as_slice() {
            [suite, name, kind] => (suite, name, PLAIN, kind),
            [suite, name, series, kind] => {
                (suite, name, series.parse().ok().filter(|series| *series != PLAIN)?, kind)
            }
            _ => return None,
        };
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let kind = Kind::ALL.into_iter().find(|one| one.name() == *kind)?;
        (plain(suite) && plain(name)).then(|| Self {
            suite: (*suite).to_owned(),
            name: (*name).to_owned(),
            series,
            kind,
        })
    }

    /// `suite/name`.
    #[must_use]
    pub fn scenario(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }

    /// Whether it is the same of the same scenario, of whatever series.
    #[must_use]
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.suite, &self.name, self.kind) == (&other.suite, &other.name, other.kind)
    }

    /// Its file below `expected/`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("{self}.snap").into()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.suite, self.name)?;
        if self.series != PLAIN {
            write!(f, "{}/", self.series)?;
        }
        write!(f, "{}", self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_path_below_expected_and_read_back() {
        for text in ["health-checks/juno/log", "lab/whole-1.2/2026.10/results"] {
            let id = Id::parse(text).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(id.path(), PathBuf::from(format!("{text}.snap")));
        }
        for text in [
            "",
            "a/b",
            "a/b/journal",
            "a/b/2023.01/log",
            "a/b/2026.1/log",
            "a/b/2026.10/c/log",
            "../b/log",
            "a//log",
            "a/b c/log",
        ] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }
}
