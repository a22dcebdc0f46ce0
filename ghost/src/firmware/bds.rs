//! The numbered menus of Arm's UEFI: their countdown, questions and answers.
//!
//! Behaviour and messages follow EDK2's `ArmPlatformPkg/Bds/`, before 2015.

use std::fmt::Write as _;

use tokio::time::Instant;

use crate::console::Input;
use crate::machine::Machine;

/// Prints `lines` and counts down; whether a key stopped it (any does).
pub(super) async fn countdown(machine: &mut Machine, lines: &[String], seconds: u32) -> bool {
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    text.push_str("The default boot selection will start in ");
    machine.console().print(&text).await;
    let start = Instant::now();
    let mut stopped = false;
    for left in (1..=seconds).rev() {
        machine.console().print(&format!("{left:3} seconds")).await;
        let end = start + machine.countdown(seconds - left + 1);
        if machine.console().key_before(end, |_| true).await.is_some() {
            stopped = true;
            break;
        }
        machine.console().print(&"\x08".repeat(11)).await;
    }
    // Whatever else was typed meanwhile is forgotten.
    machine.console().drain();
    machine.console().print("\n").await;
    stopped
}

/// An answer to one of its questions.
pub(super) enum Answer {
    Line(String),
    /// `ESC`, or what ends a line of a console here: the question was given up.
    Escape,
}

/// Asks, with `prompt`.
pub(super) async fn ask(machine: &mut Machine, prompt: &str) -> Answer {
    match machine.console().read_line(prompt).await {
        Input::Line(line) if line.contains('\x1b') => Answer::Escape,
        Input::Line(line) => Answer::Line(line),
        Input::Interrupt => Answer::Escape,
    }
}

/// Which of `count` things was chosen, from 0; nothing when it was none of them,
/// which is said.
pub(super) async fn number(machine: &mut Machine, line: &str, count: usize) -> Option<usize> {
    // Anything but a number counts as 0.
    let chosen = line.trim().parse::<usize>().ok().filter(|chosen| (1..=count).contains(chosen));
    if chosen.is_none() {
        if !line.trim().is_empty() {
            machine.ledger.violation("bad-choice", format!("{line:?} of {count}"));
        }
        machine.console().print(&format!("Invalid input (max {count})\n")).await;
    }
    chosen.map(|chosen| chosen - 1)
}

/// A numbered list.
pub(super) fn numbered<'a>(titles: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for (index, title) in titles.into_iter().enumerate() {
        let _ = writeln!(text, "[{}] {title}", index + 1);
    }
    text
}
