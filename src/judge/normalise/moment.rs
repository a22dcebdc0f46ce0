//! What a board showed when LAVA left the expectation: the console's lines around
//! the one that stands closest to the first difference, for people.

use super::Normaliser;
use super::masks::Scope;
use super::rows::{Row, Seen};
use crate::event::Moment;
use crate::text::{printable, quoted_if_unclear};

/// Lines that are kept before the closest one, and behind it.
const BEFORE: usize = 7;
const BEHIND: usize = 4;
/// Most lines of a console that are looked at, from its end.
const LINES: usize = 20_000;
/// Most lines of a snapshot that are looked for there, so that two long texts which have
/// nothing in common don't take forever.
const TRIES: usize = 200;

impl Seen {
    /// Whether it says enough to be looked for: what is that short is everywhere.
    fn is_telling(&self) -> bool {
        match self {
            Self::Printed(_) => true,
            Self::Typed(text) | Self::Case(text) => text.len() > 2,
        }
    }

    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Printed(text) => quoted_if_unclear(line) == *text,
            Self::Typed(text) => line.ends_with(text.as_str()),
            Self::Case(name) => ["TEST_CASE_ID=", "STARTTC ", "ENDTC "].iter().any(|before| {
                line.split_once(before)
                    .and_then(|(_, rest)| rest.strip_prefix(name.as_str()))
                    .is_some_and(|rest| rest.starts_with([' ', '>']))
            }),
        }
    }
}

/// The moment at which `found`, a snapshot, left the expectation: in its line `at`, from 0.
/// The closest line at or before it that the console shows, too, is looked for; without one
/// it is the console's end.
#[must_use]
pub fn moment(console: &str, found: &[Row], at: usize, normaliser: Normaliser<'_>) -> Moment {
    let lines: Vec<&str> =
        console.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    let lines = &lines[lines.len().saturating_sub(LINES)..];
    let masked: Vec<String> = lines.iter().map(|line| normaliser.line(Scope::Board, line)).collect();
    let before = &found[..found.len().min(at.saturating_add(1))];
    let telling = |(at, row): (usize, &'_ Row)| row.seen.as_ref().is_some_and(Seen::is_telling).then_some(at);
    let closest = before.iter().enumerate().rev().filter_map(telling).take(TRIES).find_map(|at| {
        let seen = before[at].seen.as_ref()?;
        let all = || masked.iter().enumerate().filter(|(_, line)| seen.is_in(line)).map(|(at, _)| at);
        let last = all().next_back()?;
        // The same may be said more than once.
        let earlier = before[..at].iter().filter(|row| row.seen.as_ref() == Some(seen)).count();
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

    /// A snapshot with these lines.
    fn rows(seen: impl IntoIterator<Item = Option<Seen>>) -> Vec<Row> {
        seen.into_iter().map(|seen| Row { text: String::new(), seen }).collect()
    }

    fn printed(text: &str) -> Option<Seen> {
        Some(Seen::Printed(text.into()))
    }

    fn typed(text: &str) -> Option<Seen> {
        Some(Seen::Typed(text.into()))
    }

    fn case(name: &str) -> Option<Seen> {
        Some(Seen::Case(name.into()))
    }

    /// The closest line, for the last line of `found`.
    fn closest(found: impl IntoIterator<Item = Option<Seen>>) -> Option<String> {
        let (masks, context) = (Masks::new(), Context::new(Some("12")));
        let found = rows(found);
        let normaliser = Normaliser { masks: &masks, context: &context };
        let moment = moment(CONSOLE, &found, found.len() - 1, normaliser);
        moment.at.map(|at| moment.lines[at].clone())
    }

    #[test]
    fn a_line_of_the_board_is_found_also_where_it_is_masked() {
        assert_eq!(closest([printed("=> boot")]).as_deref(), Some("=> boot"));
        let found = [typed("tftp 0x1 [JOB_ID]/tftp-deploy-[TMPDIR]/k/zImage"), None];
        assert_eq!(closest(found).as_deref(), Some("=> tftp 0x1 12/tftp-deploy-abcdefgh/k/zImage"));
        assert_eq!(closest([None]), None);
    }

    #[test]
    fn of_lines_that_are_alike_it_is_the_right_one() {
        let (masks, context) = (Masks::new(), Context::new(None));
        let normaliser = Normaliser { masks: &masks, context: &context };
        let found = rows([None, typed("dhcp"), typed("dhcp"), None]);
        let second = moment(CONSOLE, &found, 3, normaliser);
        assert_eq!(second.lines[second.at.unwrap() + 2], "=> boot");
        let first = moment(CONSOLE, &found, 1, normaliser);
        assert_eq!(first.lines[first.at.unwrap() + 2], "=> tftp 0x1 12/tftp-deploy-abcdefgh/k/zImage");
    }

    #[test]
    fn a_test_case_is_found_by_its_signal() {
        assert!(closest([None, case("ping")]).unwrap().contains("TEST_CASE_ID=ping "));
        assert_eq!(closest([case("pinger")]).as_deref(), Some("<LAVA_SIGNAL_ENDTC pinger>"));
        assert_eq!(closest([case("pong")]), None);
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
        let found = rows(vec![printed("something else"); 100_000]);
        // Each line was once compared with all before it and with the whole console.
        let moment = moment(&"x\n".repeat(LINES), &found, 99_999, normaliser);
        assert_eq!(moment.at, None);
    }

    fn any_seen() -> impl Strategy<Value = Option<Seen>> {
        prop_oneof![
            Just(None),
            "[a-c]{0,3}|.{0,20}".prop_map(|text| printed(&text)),
            "[a-c]{0,3}|.{0,20}".prop_map(|text| typed(&text)),
            "[a-c]{0,3}|.{0,20}".prop_map(|text| case(&text)),
        ]
    }

    proptest! {
        #[test]
        fn any_line_of_any_text_has_its_moment(
            console in "([a-c]{0,2}\n|.{0,20}\n){0,30}",
            found in prop::collection::vec(any_seen(), 0..20),
            at in 0usize..30,
        ) {
            let (masks, context) = (Masks::new(), Context::new(Some("12")));
            let normaliser = Normaliser { masks: &masks, context: &context };
            let moment = moment(&console, &rows(found), at, normaliser);
            prop_assert!(moment.at.is_none_or(|at| at < moment.lines.len()));
            prop_assert!(moment.lines.len() <= BEFORE + 1 + BEHIND);
        }
    }
}
