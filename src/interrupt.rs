//! SIGINT, SIGTERM and SIGHUP (a terminal that went away): the first asks the run
//! to end well, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::print;

const SIGHUP: u32 = 1;

/// Whether this process was started with a signal ignored (`proc_pid_status(5)`).
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// The next one of a signal, for ever none where it is not listened to.
async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Tells whether the user has had enough. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts to listen. What `leave` returns is printed when the process leaves
    /// at once: what stays behind, and how to remove it.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn listen(leave: impl Fn() -> String + Send + 'static) -> Result<Self> {
        let hear = |kind| signal(kind).map_err(|error| Error::failed("listen to signals", error));
        let (mut int, mut term) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
        // Who started us with nohup wants no end with the terminal.
        let mut hangup = if is_ignored(SIGHUP) { None } else { Some(hear(SignalKind::hangup())?) };
        let (told, asked) = watch::channel(false);
        tokio::spawn(async move {
            let mut again = false;
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    Some(_) = next(&mut hangup) => {}
                }
                if again {
                    print::err(&format!("{}\n", leave()));
                    std::process::exit(Exit::Interrupted as i32);
                }
                again = true;
                told.send_replace(true);
            }
        });
        Ok(Self { asked })
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Resolves when it is asked for.
    pub async fn asked(&self) {
        if self.asked.clone().wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Does `work`, unless the user has had enough: then `work` is dropped.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or what `work` fails with.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.asked() => Err(Error::Interrupted),
            result = work => result,
        }
    }
}
