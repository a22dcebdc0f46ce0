//! LAVA's words for what its jobs, devices and workers are. A word that is not known here
//! is kept as LAVA wrote it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An enumeration with the words of a `*_CHOICES` in `lava_scheduler_app/models.py`.
macro_rules! words {
    ($(#[$about:meta])* $name:ident: $($word:ident),+) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        #[allow(missing_docs)] // LAVA's own words.
        pub enum $name {
            $($word,)+
            /// A word that this list does not have.
            Other(String),
        }

        impl $name {
            /// LAVA's word.
            #[must_use]
            pub fn word(&self) -> &str {
                match self {
                    $(Self::$word => stringify!($word),)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $(stringify!($word) => Self::$word,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                word.to_owned().into()
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.word().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// How far a job is, in the order in which it gets there.
    JobState: Submitted, Scheduling, Scheduled, Running, Canceling, Finished
}
words! {
    /// How a job ended.
    JobHealth: Unknown, Complete, Incomplete, Canceled
}
words! {
    /// Whether a device is taken.
    DeviceState: Idle, Reserved, Running
}
words! {
    /// Whether a device is fit for jobs.
    DeviceHealth: Unknown, Maintenance, Good, Bad, Looping, Retired
}
words! {
    /// Whether the server hears of a worker.
    WorkerState: Online, Offline
}
words! {
    /// Whether a worker is meant to work.
    WorkerHealth: Active, Maintenance, Retired
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_that_is_not_known_is_kept() {
        assert_eq!(JobState::from("Running"), JobState::Running);
        let state = JobState::from("Paused");
        assert_eq!(state, JobState::Other("Paused".into()));
        assert_eq!(state.to_string(), "Paused");
    }

    proptest! {
        #[test]
        fn a_word_is_read_as_it_was_written(word in ".*") {
            let health = DeviceHealth::from(word.as_str());
            prop_assert_eq!(health.word(), &word);
            let json = serde_json::to_string(&WorkerState::from(word.as_str())).unwrap();
            let state: WorkerState = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(state.word(), word);
        }
    }
}
