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
pub use masks::{Context, Masks};

use crate::text::{LINE, printable_up_to};
use masks::Scope;

/// Most characters of a line that are looked at, and that are kept of it, masked. The longest real ones are tracebacks
/// of Python's, of some 5000.
const UNMASKED: usize = 16 * LINE;
const MASKED: usize = 4 * LINE;

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

    /// [`Self::mask`] of untrusted text, on one line. It is cut after that: where a line ends must not
    /// depend on how long a job's id is.
    pub(crate) fn line(&self, scope: Scope, text: &str) -> String {
        let masked = self.mask(scope, &printable_up_to(UNMASKED, text));
        if masked.len() <= MASKED { masked } else { printable_up_to(MASKED, &masked) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_long_line_is_cut_does_not_depend_on_the_jobs_id() {
        let masks = Masks::new();
        let line = |job: &str| {
            let context = Context::new(Some(job));
            let text = format!("/lava-{job}/bin ").repeat(MASKED);
            Normaliser { masks: &masks, context: &context }.line(Scope::Lava, &text[..MASKED * 8])
        };
        let of = |job: &str| line(job).chars().take(MASKED).collect::<String>();
        assert_eq!(of("7"), of("471"));
        assert!(line("7").ends_with("bytes cut]"));
    }
}
