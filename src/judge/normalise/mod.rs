//! Turns what came back of a job into text that is equal from run to run.
//!
//! [`masks`] replaces what varies by named placeholders; [`log`], [`pipeline`],
//! [`results`] and [`ledger`] give the rest a readable shape. Structure is never masked: a line
//! that LAVA no longer writes, writes twice or writes elsewhere stays visible.

mod answers;
pub mod artifacts;
pub mod heard;
pub mod ledger;
pub mod log;
pub mod masks;
pub mod moment;
pub mod pipeline;
pub mod results;
pub mod rows;

pub use artifacts::Artifacts;
pub use masks::{Context, Masks, TOKEN};

use crate::text::printable;
use masks::Scope;

/// Masks of a run with what is known of one job.
#[derive(Debug, Clone, Copy)]
pub struct Normaliser<'a> {
    /// The run's masks; they count what they match.
    pub masks: &'a Masks,
    /// Values that are known exactly.
    pub context: &'a Context,
}

impl Normaliser<'_> {
    /// `text` with all that varies masked: exact values first, then patterns.
    fn mask(&self, scope: Scope, text: &str) -> String {
        let exact = self.context.apply(text, self.masks);
        self.masks.apply(scope, &exact)
    }

    /// [`Self::mask`] of untrusted text, on one line.
    pub(crate) fn line(&self, scope: Scope, text: &str) -> String {
        self.mask(scope, &printable(text))
    }
}
