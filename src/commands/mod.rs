//! The commands, a file each: its options, and what it does with them.

pub mod accept;
pub mod check;
pub mod clean;
pub mod doctor;
pub mod down;
pub mod list;
pub mod review;
pub mod run;
pub mod show;
pub mod up;
