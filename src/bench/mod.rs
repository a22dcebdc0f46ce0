//! What the harness itself costs, and where the time of a run goes.
//!
//! Nothing here judges, and no verdict depends on it: [`cpu`] says whose processor time
//! was whose, [`run`] what became of the wall clock, [`ghosts`] what boards cost that do
//! nothing and how fast their lines are, and [`table`] shows it to people.

pub mod cpu;
pub mod ghosts;
pub mod run;
pub mod table;
