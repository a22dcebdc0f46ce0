//! LAVA's server as its users and administrators meet it.

pub mod actions;
pub mod api;
pub mod events;
pub mod group;
pub mod log;
pub mod series;
pub mod words;
pub mod xmlrpc;

pub use api::Api;
