//! Printing that never fails: a reader that went away (`| head`, a terminal that
//! was closed) must not end a run before its cleanup. `print!` and `eprint!` panic.

use std::io::Write;

/// Prints to stdout.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints to stderr.
pub fn err(text: &str) {
    if cfg!(test) {
        // So that the tests' harness captures it.
        eprint!("{text}");
    } else {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
