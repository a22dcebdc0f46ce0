//! meta-lava as its users meet it: the built executable, its exit code, its words,
//! its report, and what it leaves behind when something fails around it.
//!
//! What needs a Docker engine is ignored by `cargo test` and run by `.ci/run faults`,
//! where it fails without one. That is what libtest has `#[ignore]` for: such a test
//! is listed as ignored with its reason, instead of passing without having tested
//! anything.

mod bisect;
mod broken_files;
mod certificates;
mod compare;
mod defects;
mod endings;
mod engine;
mod faults_in_a_stack;
mod faults_of_the_engine;
mod hostile_boards;
mod interrupts;
mod kills;
mod kinds_of_engines;
mod printing;
mod proxy;
mod report;
mod repository;
mod self_test;
mod shells;
mod templates;
mod tls;
mod tool;
