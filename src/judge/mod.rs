//! What came back of a job, against what is expected of it.

pub mod aftermath;
pub mod change;
pub mod defect;
pub mod meant;
pub mod normalise;
pub mod pending;
pub mod question;
pub mod snapshot;
pub mod verdict;
