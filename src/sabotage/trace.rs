//! Which lines of LAVA each scenario runs through: a sabotage that breaks nothing has `trace.py` write it
//! down, and [`super::lay::Overlay::traces_of`] reads it.

use super::lay::TRACES;
use super::{Change, Place, Sabotage};

/// What mutants are drawn from, as a part of a file's path.
pub const ACTIONS: &[&str] = &["lava_dispatcher/actions/"];
/// All of LAVA's own that a job goes through on its worker.
pub const PACKAGES: &[&str] = &["lava_dispatcher/", "lava_common/"];

/// The sabotage that breaks nothing, and writes down which lines each job runs through in files whose path
/// has one of `parts`.
#[must_use]
pub fn traced(parts: &[&str]) -> Sabotage {
    let program = include_str!("trace.py").replace("@FOLDER@", TRACES);
    let program = program.replace("@PARTS@", &parts.join(" "));
    Sabotage {
        name: "traced".into(),
        about: "nothing is broken; it is written down which lines a job runs through".into(),
        ..Sabotage::of(vec![Change::whole(Place::Dispatcher, "sitecustomize.py", program)])
    }
}
