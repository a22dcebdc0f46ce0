//! Ghosts: small computers that stand where LAVA's boards would be.
//!
//! One [`daemon`] per worker plays all of its boards. A [`board::Board`] is
//! data; the [`machine::Machine`] made of it has power, [`console`]s, memory and
//! a network; its [`firmware`] obeys what LAVA types, and [`linux`] runs the
//! root file system that LAVA served. What LAVA did to a board stands in its
//! [`ledger`].

mod blobs;
pub mod board;
pub mod cli;
pub mod collect;
pub mod console;
pub mod control;
pub mod controller;
pub mod daemon;
pub mod daplink;
pub mod disk;
pub mod engine;
pub mod fault;
pub mod firmware;
pub mod ledger;
pub mod linux;
pub mod machine;
pub mod memory;
pub mod net;
pub mod patience;
pub mod peripheral;
mod pty;
pub mod ssh;
pub mod terminal;
pub mod tools;
pub mod trial;
pub mod vland;
