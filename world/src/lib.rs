//! The world outside of the lab: what LAVA downloads, and a KissCache in front of it.
//!
//! `ghost artifacts build` makes the files once, when the container's image is built, and `ghost
//! world` serves them. Everything that a ghost boots comes from here, byte for byte the same in
//! each build, so that the verdict knows what a board must have received.

pub mod artifacts;
pub mod cli;
pub mod faults;
mod image;
mod installer;
pub mod manifest;
pub mod serve;
pub mod userland;
