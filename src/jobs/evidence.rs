//! What came back of one scenario, from both sides, as it came.

use std::collections::BTreeMap;

use meta_lava_ghost::ledger::Entry;

use crate::jobs::announced::Announced;
use crate::lava::log::Log;

/// Everything the verdict is made of. Raw: nothing is masked here.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// LAVA's job id, `None` when LAVA refused the job.
    pub job: Option<String>,
    /// `GET jobs/ID/` as JSON.
    pub details: serde_json::Value,
    /// `GET jobs/ID/logs/`: LAVA's log.
    pub log: Log,
    /// `GET /scheduler/job/ID/description`: the pipeline that LAVA made of the job, YAML
    /// as it was sent; empty where LAVA has none.
    pub pipeline: Vec<u8>,
    /// `GET jobs/ID/suites/` and `jobs/ID/tests/`: suite name to tests, JSON as it was sent.
    pub suites: Vec<(String, Vec<serde_json::Value>)>,
    /// `GET jobs/ID/metadata/`.
    pub metadata: serde_json::Value,
    /// What lava-worker's own log says of the job, a line each; asked for only where LAVA has
    /// no log of it.
    pub worker: Vec<String>,
    /// What LAVA's event stream told meanwhile.
    pub announced: Announced,
    /// Board name to its ledger.
    pub ledgers: BTreeMap<String, Vec<Entry>>,
    /// Contents of files that ledgers name by sha256 (LAVA's overlay), by sha256.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Board name to what its first serial port printed, for humans.
    pub consoles: BTreeMap<String, Vec<u8>>,
}
