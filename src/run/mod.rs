//! The one way, put together: a stack, the jobs of scenarios on it, and their verdicts.

pub mod judge;
pub mod lab;
pub mod runner;
pub mod session;
