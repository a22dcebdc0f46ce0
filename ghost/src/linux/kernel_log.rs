//! What the kernel prints: the log of a boot, and a panic.
//!
//! Times are made up and the same at each boot. The texts are those of Linux 6
//! (`init/`, `kernel/panic.c`, `net/ipv4/ipconfig.c`), which LAVA waits for.

use std::fmt::Write as _;

use crate::console::Console;

/// Microseconds from one line to the next.
const STEP: u64 = 8_731;

/// What time it is for the kernel: it goes on with each line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock {
    micros: u64,
}

impl Clock {
    /// The next time, as it stands before a line: in brackets, and a blank.
    pub(super) fn prefix(&mut self) -> String {
        self.micros += STEP;
        format!("[{:5}.{:06}] ", self.micros / 1_000_000, self.micros % 1_000_000)
    }
}

pub(super) struct KernelLog {
    clock: Clock,
    /// Lines that wait to be printed.
    lines: String,
}

impl KernelLog {
    pub(super) fn new() -> Self {
        Self { clock: Clock::default(), lines: String::new() }
    }

    /// A line before the kernel knows the time.
    pub(super) fn early(&mut self, text: &str) {
        self.add("[    0.000000] ", text);
    }

    pub(super) fn line(&mut self, text: &str) {
        let prefix = self.prefix();
        self.add(&prefix, text);
    }

    /// A line that may bring its time along.
    pub(super) fn line_of_board(&mut self, text: &str) {
        if text.starts_with('[') { self.add("", text) } else { self.line(text) }
    }

    /// The time of a line that somebody else prints.
    pub(super) fn prefix(&mut self) -> String {
        self.clock.prefix()
    }

    /// The clock, for who prints lines of the kernel's from now on.
    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Prints what waits.
    pub(super) async fn flush(&mut self, console: &mut Console) {
        console.print(&std::mem::take(&mut self.lines)).await;
    }

    /// A panic, in the words of `kernel/panic.c`; `reboot` is the `panic=` of the command line.
    pub(super) fn panic(&mut self, why: &str, release: &str, model: &str, reboot: Option<u64>) {
        self.line(&format!("Kernel panic - not syncing: {why}"));
        self.line(&format!("CPU: 0 PID: 1 Comm: swapper/0 Not tainted {release} #1"));
        self.line(&format!("Hardware name: {model}"));
        match reboot {
            Some(seconds) => self.line(&format!("Rebooting in {seconds} seconds..")),
            None => self.line(&format!("---[ end Kernel panic - not syncing: {why} ]---")),
        }
    }

    fn add(&mut self, prefix: &str, text: &str) {
        // One line is one line, whatever a command line or a device tree holds.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Writing to a string does not fail.
        let _ = writeln!(self.lines, "{prefix}{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_does_not_reboot_has_an_end() {
        let mut log = KernelLog::new();
        log.early("Linux version 6.1.0");
        log.panic("oh no", "6.1.0", "A Board", None);
        assert_eq!(
            log.lines,
            "[    0.000000] Linux version 6.1.0\n\
             [    0.008731] Kernel panic - not syncing: oh no\n\
             [    0.017462] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0 #1\n\
             [    0.026193] Hardware name: A Board\n\
             [    0.034924] ---[ end Kernel panic - not syncing: oh no ]---\n"
        );
    }

    #[test]
    fn a_panic_that_reboots_has_none() {
        let mut log = KernelLog::new();
        log.panic("oh no", "6.1.0", "A Board", Some(5));
        assert!(log.lines.ends_with("Rebooting in 5 seconds..\n"));
    }

    #[test]
    fn a_line_is_one_line() {
        let mut log = KernelLog::new();
        log.line_of_board("[    1.000000] a\nb\rc");
        assert_eq!(log.lines, "[    1.000000] a b c\n");
    }
}
