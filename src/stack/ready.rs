//! What is asked of an engine before a run begins on it, so that an engine which can't bear a
//! run is one message, and not a job that fails.

use std::path::Path;

use crate::error::{Error, Result};
use crate::stack::compose::Compose;
use crate::stack::docker::Engine;
use crate::stack::docker::engine::{Preflight, parse_version};
use crate::stack::{sweep, trial};

/// The oldest API of engines up to 28: with them every Compose tool can talk.
const OLD_API: (u32, u32) = (1, 24);

/// Asks the engine what it is. One that does away with old versions of the API is asked by the
/// Compose tool too, and one of a kind that no run was ever tried on is tried.
///
/// # Errors
/// [`Error::Infrastructure`] with what does not work.
pub async fn before_a_run(engine: &Engine, root: &Path) -> Result<Preflight> {
    let found = engine.preflight().await?;
    if parse_version(&found.min_api) > OLD_API {
        Compose::find().await?.try_files(engine, root, None).await?;
    }
    if !found.untried.is_empty() {
        let run = sweep::new_run_name();
        let tried = trial::run(engine, root, &run, &found.architecture).await;
        sweep::sweep_run(engine, &run).await?;
        let untried = found.untried.join("; ");
        let findings = tried.map_err(|error| Error::infrastructure(format!("{error} ({untried})")))?;
        let needed = findings.iter().filter(|finding| trial::is_needed(finding));
        if let Some(why) = needed.filter_map(trial::consequence).next() {
            return Err(Error::infrastructure(format!("{why} ({untried}); see `meta-lava doctor`")));
        }
    }
    Ok(found)
}
