//! The commands, a file each: its options, and what it does with them.

pub mod accept;
pub mod bench;
pub mod check;
pub mod clean;
pub mod compare;
pub mod completions;
pub mod coverage;
pub mod doctor;
pub mod down;
pub mod ghost;
pub mod list;
pub mod man;
pub mod merge;
pub mod report;
pub mod rerun;
pub mod review;
pub mod run;
pub mod self_test;
pub mod show;
pub mod up;

use std::path::Path;

use crate::error::{Error, Result};
pub(crate) use crate::print::out as print;
use crate::root::root;
use crate::scenario::filter::FilterArgs;
use crate::scenario::{Matrix, Scenario};
use crate::stack::docker::Engine;
use crate::stack::images::{self, Lava, Wanted};

/// All scenarios.
pub(crate) fn matrix() -> Result<Matrix> {
    Matrix::load(&root()?)
}

/// The one scenario that is called `name`, or that a glob means.
fn one<'m>(matrix: &'m Matrix, name: &str) -> Result<&'m Scenario> {
    let chosen = FilterArgs { names: vec![name.to_owned()], ..FilterArgs::default() }.select(matrix)?;
    match chosen.as_slice() {
        [one] => Ok(one),
        more => {
            let names: Vec<&str> = more.iter().map(|scenario| scenario.name.as_str()).collect();
            Err(Error::Usage(format!("{name:?} is more than one scenario: {}", names.join(", "))))
        }
    }
}

/// The image of `lava`'s server, built if need be; who waits is told.
async fn server_image(engine: &Engine, root: &Path, lava: &Lava) -> Result<String> {
    let (events, told) = crate::report::lines();
    let images = images::ensure(engine, root, lava, Wanted::Server, &events).await;
    drop(events);
    let _ = told.await;
    images.map(|images| images.server)
}
