//! Which lines of LAVA are run: sabotages that break nothing have `trace.py` write it down, by scenario
//! on the worker ([`super::lay::Overlay::traces_of`]), for all of them together on the server
//! ([`super::lay::Overlay::trace_of_server`]).

use super::lay::TRACES;
use super::{Change, Place, Sabotage};

/// What mutants are drawn from, as a part of a file's path.
pub const ACTIONS: &[&str] = &["lava_dispatcher/actions/"];
/// All of LAVA's own that a job goes through on its worker.
pub const PACKAGES: &[&str] = &["lava_dispatcher/", "lava_common/"];
/// All of LAVA's own on its server, but for what it does once, when it is set up.
pub const SERVER: &[&str] = &[
    "lava_common/",
    "lava_rest_app/",
    "lava_results_app/",
    "lava_scheduler_app/",
    "lava_server/",
    "linaro_django_xmlrpc/",
];

/// The sabotage that breaks nothing, and writes down which lines each job runs through in files whose path
/// has one of `parts`.
#[must_use]
pub fn traced(parts: &[&str]) -> Sabotage {
    Sabotage {
        name: "traced".into(),
        about: "nothing is broken; it is written down which lines a job runs through".into(),
        ..Sabotage::of(vec![Change::whole(Place::Dispatcher, "sitecustomize.py", program(parts, ""))])
    }
}

/// The sabotage that breaks nothing, and writes down which lines the server runs through.
#[must_use]
pub fn server_traced() -> Sabotage {
    // Debian has a `sitecustomize` of its own in front of this folder.
    let start = "import meta_lava_trace\n".to_owned();
    Sabotage {
        name: "server-traced".into(),
        about: "nothing is broken; it is written down which lines the server runs through".into(),
        ..Sabotage::of(vec![
            Change::whole(Place::Server, "meta_lava_trace.py", program(SERVER, "server")),
            Change::whole(Place::Server, "meta-lava-trace.pth", start),
        ])
    }
}

fn program(parts: &[&str], name: &str) -> String {
    let program = include_str!("trace.py").replace("@FOLDER@", TRACES);
    program.replace("@PARTS@", &parts.join(" ")).replace("@NAME@", name)
}
