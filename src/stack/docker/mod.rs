//! The engine, by its API: everything but starting and stopping the topology,
//! which is the Compose tool's.

pub mod archive;
pub mod build;
pub mod engine;
pub mod exec;
pub mod host;
mod kind;
pub mod objects;
pub mod once;
mod podman;
pub mod tls;
pub mod trial;

pub use engine::Engine;
