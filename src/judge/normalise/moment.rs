//! What a board showed when LAVA left the expectation: the console's lines around
//! the one that stands closest to the first difference, for people.

use std::borrow::Cow;

use super::Normaliser;
use super::masks::Scope;
use crate::event::Moment;
use crate::judge::snapshot::Kind;
use crate::text::{printable, quoted_if_unclear};

/// Lines that are kept before the closest one, and behind it.
const BEFORE: usize = 7;
const BEHIND: usize = 4;
/// Most lines of a console that are looked at, from its end.
const LINES: usize = 20_000;
/// Most lines of a snapshot that are looked for there, so that two long texts which have
/// nothing in common don't take forever.
const TRIES: usize = 200;

/// What of a snapshot's line can be found on a console.
#[derive(Debug, PartialEq, Eq)]
enum Needle<'a> {
    /// A line of it.
    Line(Cow<'a, str>),
    /// What was typed, which the board echoes behind a prompt.
    Typed(&'a str),
    /// A test case, which LAVA's test shell names in a signal.
    Case(&'a str),
}

impl<'a> Needle<'a> {
    fn of(kind: Kind, line: &'a str) -> Option<Self> {
        let found = match kind {
            Kind::Log => match line.split_once(" | ")? {
                (source, text) if matches!(source.trim_end(), "board" | "target" | "feedback") => {
                    Self::Line(Cow::Borrowed(text))
                }
                (source, text) if source.trim_end() == "input" => Self::Typed(text),
                _ => return None,
            },
            Kind::Ledger => {
                let (stage, text) = line.trim_start().strip_prefix("console ")?.split_once("> ")?;
                // `console 0 firmware> text`
                Self::Typed(stage.split_once(' ').map(|_| text)?)
            }
            Kind::Results => {
                let (case, _) = line.strip_prefix("  ")?.split_once(": ")?;
                Self::Case(case.rsplit('/').next().unwrap_or(case))
            }
        };
        // What is that short is everywhere.
        let (Self::Typed(text) | Self::Case(text)) = &found else { return Some(found) };
        (text.len() > 2).then_some(found)
    }

    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Line(text) => quoted_if_unclear(line) == *text,
            Self::Typed(text) => line.ends_with(text),
            Self::Case(name) => ["TEST_CASE_ID=", "STARTTC ", "ENDTC "].iter().any(|before| {
                line.split_once(before)
                    .and_then(|(_, rest)| rest.strip_prefix(name))
                    .is_some_and(|rest| rest.starts_with([' ', '>']))
            }),
        }
    }
}

/// The moment at which `found`, the snapshot of `kind`, left the expectation: in its
/// line `at`, from 0. The closest line at or before it that the console shows, too, is
/// looked for; without one it is the console's end.
#[must_use]
pub fn moment(console: &str, kind: Kind, found: &str, at: usize, normaliser: Normaliser<'_>) -> Moment {
    let lines: Vec<&str> =
        console.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let lines = &lines[lines.len().saturating_sub(LINES)..];
    let masked: Vec<String> = lines.iter().map(|line| normaliser.line(Scope::Board, line)).collect();
    let before: Vec<&str> = found.lines().take(at + 1).collect();
    let needles =
        before.iter().enumerate().rev().filter_map(|(at, line)| Some((at, Needle::of(kind, line)?)));
    let closest = needles.take(TRIES).find_map(|(at, needle)| {
        let all = || masked.iter().enumerate().filter(|(_, line)| needle.is_in(line)).map(|(at, _)| at);
        let last = all().next_back()?;
        let same = |line: &&&str| Needle::of(kind, line).as_ref() == Some(&needle);
        // The same may be said more than once.
        let earlier = before[..at].iter().filter(same).count();
        Some(all().nth(earlier).unwrap_or(last))
    });
    let range = match closest {
        Some(at) => at.saturating_sub(BEFORE)..(at + 1 + BEHIND).min(lines.len()),
        None => lines.len().saturating_sub(BEFORE + 1 + BEHIND)..lines.len(),
    };
    Moment {
        at: closest.map(|at| at - range.start),
        lines: lines[range].iter().map(|line| printable(line)).collect(),
    }
}

/// The end of a console.
#[must_use]
pub fn end(console: &str) -> Moment {
    let lines: Vec<&str> =
        console.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(BEFORE + 1 + BEHIND);
    Moment { at: None, lines: lines[last..].iter().map(|line| printable(line)).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::judge::normalise::{Context, Masks};

    const CONSOLE: &str = "U-Boot\r\n=> dhcp\r\nBOOTP broadcast 1\r\n=> tftp 0x1 12/tftp-deploy-abcdefgh/k/zImage\r\nLoading: #\r\n\r\n\
        => dhcp\r\nBOOTP broadcast 1\r\n=> boot\r\nStarting kernel\r\n<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping \
        RESULT=pass>\r\n<LAVA_SIGNAL_ENDTC pinger>\r\n/ # ";

    /// The closest line, for the last line of `found`.
    fn closest(kind: Kind, found: &str) -> Option<String> {
        let (masks, context) = (Masks::new(), Context::new(Some("12")));
        let normaliser = Normaliser { masks: &masks, context: &context };
        let moment = moment(CONSOLE, kind, found, found.lines().count() - 1, normaliser);
        moment.at.map(|at| moment.lines[at].clone())
    }

    #[test]
    fn a_line_of_the_board_is_found_also_where_it_is_masked() {
        assert_eq!(closest(Kind::Log, "board    | => boot").as_deref(), Some("=> boot"));
        let found = "input    | tftp 0x1 [JOB_ID]/tftp-deploy-[TMPDIR]/k/zImage\ninfo     | something";
        assert_eq!(
            closest(Kind::Log, found).as_deref(),
            Some("=> tftp 0x1 12/tftp-deploy-abcdefgh/k/zImage")
        );
        assert_eq!(closest(Kind::Log, "info     | validate"), None);
    }

    #[test]
    fn of_lines_that_are_alike_it_is_the_right_one() {
        let (masks, context) = (Masks::new(), Context::new(None));
        let normaliser = Normaliser { masks: &masks, context: &context };
        let found = "board x\n  console 0 firmware> dhcp\n  console 0 firmware> dhcp\n  network dhcp\n";
        let second = moment(CONSOLE, Kind::Ledger, found, 3, normaliser);
        assert_eq!(second.lines[second.at.unwrap() + 2], "=> boot");
        let first = moment(CONSOLE, Kind::Ledger, found, 1, normaliser);
        assert_eq!(first.lines[first.at.unwrap() + 2], "=> tftp 0x1 12/tftp-deploy-abcdefgh/k/zImage");
    }

    #[test]
    fn a_test_case_is_found_by_its_signal() {
        let ping = closest(Kind::Results, "suite 0_smoke\n  set/ping: fail");
        assert!(ping.unwrap().contains("TEST_CASE_ID=ping "));
        let pinger = closest(Kind::Results, "suite 0_smoke\n  pinger: pass");
        assert_eq!(pinger.as_deref(), Some("<LAVA_SIGNAL_ENDTC pinger>"));
        assert_eq!(closest(Kind::Results, "job\n  health: Incomplete"), None);
    }

    #[test]
    fn without_a_line_to_go_by_it_is_the_end() {
        let end = end(CONSOLE);
        assert_eq!(end.lines.last().map(String::as_str), Some("/ #"));
        assert_eq!(end.at, None);
        assert_eq!(super::end("").lines, Vec::<String>::new());
    }

    #[test]
    fn two_long_texts_that_have_nothing_in_common_are_looked_through_in_bounded_time() {
        let (masks, context) = (Masks::new(), Context::new(None));
        let normaliser = Normaliser { masks: &masks, context: &context };
        let found = "target   | something else\n".repeat(100_000);
        // Each line was once compared with all before it and with the whole console.
        let moment = moment(&"x\n".repeat(LINES), Kind::Log, &found, 99_999, normaliser);
        assert_eq!(moment.at, None);
    }

    proptest! {
        #[test]
        fn any_line_of_any_text_has_its_moment(
            console in "([a-c]{0,2}\n|.{0,20}\n){0,30}", found in "(input    \\| [a-c]{1,3}\n|board    \\| [a-c]\n|.*\n){0,20}",
            at in 0usize..30,
        ) {
            let (masks, context) = (Masks::new(), Context::new(Some("12")));
            let normaliser = Normaliser { masks: &masks, context: &context };
            for kind in Kind::ALL {
                let moment = moment(&console, kind, &found, at, normaliser);
                prop_assert!(moment.at.is_none_or(|at| at < moment.lines.len()));
                prop_assert!(moment.lines.len() <= BEFORE + 1 + BEHIND);
            }
        }
    }
}
