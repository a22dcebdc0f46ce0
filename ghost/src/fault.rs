//! Faults: what is wrong with a board, on purpose, as data.
//!
//! A fault says *when* something happens and what happens *then*. Whoever is at such a moment
//! asks ([`Faults::at`]): the serial port for what is printed and typed, the network for what is
//! fetched, the daemon for power commands and tools, the machine for its stages. So a fault fits
//! any board of any firmware.
//!
//! `fault/schema.rs` is how a fault is written in a board's file.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::ledger::{Event, Ledger, PowerAction, Stage};

mod schema;
#[cfg(test)]
mod tests;

pub use schema::{Deed, Fault, Lose, Serve, When};

use schema::Trigger;

/// A moment at which something may go wrong.
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// The board begins anew, after it was switched on or reset.
    Start,
    /// It has gone on to another stage.
    Stage(Stage),
    /// It has printed a character; the line so far.
    Printed(&'a str),
    /// A line was typed.
    Typed(&'a str),
    /// It is about to fetch something: the protocol, a blank, the path or address; or `dhcp`.
    Fetch(&'a str),
    /// A power command came.
    Power(PowerAction),
    /// A tool was called: its name and its arguments, with blanks between.
    Tool(&'a str),
    /// Somebody opens a serial port.
    Opened,
}

/// The faults of one board, and how often each has happened. Cheap to clone.
#[derive(Clone)]
pub struct Faults {
    list: Arc<[Fault]>,
    state: Arc<Mutex<State>>,
    reset: Arc<Notify>,
    ledger: Ledger,
}

/// What has happened so far.
#[derive(Debug)]
struct State {
    stage: Stage,
    /// How many times the board was switched on or reset.
    starts: u32,
    counts: Vec<Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// How many times its moment was there.
    moments: u32,
    /// How many times it happened.
    happened: u32,
    /// Whether the line that is being printed has had its moment.
    of_this_line: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Faults {
    /// The faults in `list`, none of which has happened; each that does is noted in `ledger`.
    #[must_use]
    pub fn new(list: &[Fault], ledger: Ledger) -> Self {
        let state = State { stage: Stage::Off, starts: 0, counts: vec![Count::default(); list.len()] };
        Self { list: list.into(), state: Arc::new(Mutex::new(state)), reset: Arc::new(Notify::new()), ledger }
    }

    /// Makes all of them faults that have not happened.
    pub fn renew(&self) {
        let mut state = lock(&self.state);
        state.starts = 0;
        state.counts.fill(Count::default());
    }

    /// Whether any of them looks at what is printed.
    #[must_use]
    pub fn read_the_console(&self) -> bool {
        self.list.iter().any(|fault| matches!(fault.when.trigger, Trigger::Printed(_)))
    }

    /// A new line is begun on the console.
    pub fn line_ended(&self) {
        lock(&self.state).counts.iter_mut().for_each(|count| count.of_this_line = false);
    }

    /// What happens at this moment, in order; most often nothing.
    #[must_use]
    pub fn at(&self, moment: Moment<'_>) -> Vec<Deed> {
        if self.list.is_empty() {
            return Vec::new();
        }
        let mut happens = Vec::new();
        {
            let mut state = lock(&self.state);
            let State { stage, starts, counts } = &mut *state;
            match moment {
                Moment::Start => *starts = starts.saturating_add(1),
                Moment::Stage(entered) => *stage = entered,
                _ => {}
            }
            for ((number, fault), count) in self.list.iter().enumerate().zip(counts) {
                let is_printed = matches!(moment, Moment::Printed(_));
                if (is_printed && count.of_this_line) || !fault.when.is(moment, *stage, *starts) {
                    continue;
                }
                count.of_this_line |= is_printed;
                count.moments = count.moments.saturating_add(1);
                if count.moments >= fault.when.nth && count.happened < fault.times {
                    count.happened += 1;
                    happens.push((number, fault));
                }
            }
        }
        for (number, fault) in &happens {
            let detail = fault.to_string();
            self.ledger.take(Event::Fault { number: number + 1, detail });
        }
        happens.into_iter().flat_map(|(_, fault)| fault.then.iter().cloned()).collect()
    }

    /// Asks for a reset of the board, by itself, and waits for it.
    pub async fn reset(&self) {
        self.reset.notify_one();
        std::future::pending().await
    }

    /// Waits until a fault resets the board; one that did so before does not count.
    pub async fn reset_asked(&self) {
        // A power command may have overtaken it.
        let _ = tokio::time::timeout(Duration::ZERO, self.reset.notified()).await;
        self.reset.notified().await;
    }

    /// What becomes of a fetch; `what` as in [`Moment::Fetch`].
    pub async fn fetch(&self, what: &str) -> Option<Serve> {
        let mut served = None;
        for deed in self.at(Moment::Fetch(what)) {
            match deed {
                Deed::Serve(how) => served = Some(how),
                Deed::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Deed::Hang => std::future::pending().await,
                Deed::Reset => self.reset().await,
                _ => {}
            }
        }
        served
    }

    /// What becomes of a power command or a tool: `None` where it does its work, else what it
    /// says and its exit code. One that hangs never returns.
    pub async fn call(&self, moment: Moment<'_>) -> Option<(String, u8)> {
        let (mut said, mut exit) = (String::new(), None);
        for deed in self.at(moment) {
            match deed {
                Deed::Print(text) => said.push_str(&text),
                Deed::Exit(code) => exit = Some(code),
                Deed::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                Deed::Hang => std::future::pending().await,
                _ => {}
            }
        }
        exit.map(|code| (said, code))
    }

    /// Whether a connection to a serial port is refused.
    #[must_use]
    pub fn refuse_connection(&self) -> bool {
        self.at(Moment::Opened).contains(&Deed::Refuse)
    }
}

/// A byte as a line with a flipped bit brings it: another one that can be seen. Control characters
/// come through, so that there are lines still.
#[must_use]
pub fn garbled(byte: u8) -> u8 {
    let flipped = [byte ^ 0x04, byte ^ 0x08].into_iter().find(u8::is_ascii_graphic);
    flipped.filter(|_| byte.is_ascii_graphic()).unwrap_or(byte)
}

/// What is there instead of `bytes` that were served wrongly: as many, and none of them right.
#[must_use]
pub fn wrong(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}
