//! `meta-lava review`: go through pending snapshots.
//!
//! One at a time, with its difference; the keys are those of `cargo insta review`,
//! which works too. What is longer than the screen is scrolled.

use console::{Key, Style, Term, measure_text_width};

use crate::commands::accept::{chosen, refuse_in_ci};
use crate::commands::{matrix, print};
use crate::error::Result;
use crate::exit_code::Exit;
use crate::judge::pending::{self, Difference};
use crate::judge::snapshot::{Pending, Store, in_ci};
use crate::report::{Hunk, LineKind, Parts, colours, hunks};
use crate::root::root;
use crate::text::printable;

/// Lines of a difference that are shown.
const LINES: usize = 4000;

/// Columns of the numbers of a difference's lines, and of the sign behind them.
const NUMBERS: usize = 14;

/// Options of `review`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenarios, by name or glob, or single snapshots such as `health-checks/bbb/log`; all of them
    /// when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// What was decided on a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accept,
    Reject,
    Skip,
    /// This answer for all that follow, too.
    All(Rest),
    Quit,
}

/// An answer that can be given for all that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Accept,
    Reject,
    Skip,
}

impl From<Rest> for Answer {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Accept => Self::Accept,
            Rest::Reject => Self::Reject,
            Rest::Skip => Self::Skip,
        }
    }
}

/// How many snapshots went which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decided {
    accepted: usize,
    rejected: usize,
    left: usize,
}

/// Asks about each pending snapshot. Without a terminal: lists them, and ends with 1 when there are any.
///
/// # Errors
/// [`Error::Usage`] where `CI` is set or a snapshot is none, [`Error::NoMatch`] for names that are not pending.
pub async fn run(args: Args) -> Result<Exit> {
    let store = Store::new(&root()?);
    let pending = chosen(store.pending()?, &args.names)?;
    let stale = store.unreferenced(&matrix()?)?.len();
    if stale > 0 {
        eprintln!(
            "warning: no scenario refers to {stale} files of expected/: `meta-lava accept --unreferenced` removes them"
        );
    }
    if pending.is_empty() {
        print("no snapshots are pending\n");
        return Ok(Exit::Ok);
    }
    let term = Term::stdout();
    if !term.is_term() || in_ci() {
        for one in &pending {
            print(&format!("{}\n", one.id));
        }
        return Ok(Exit::Differs);
    }
    refuse_in_ci("review", in_ci())?;
    let colour = colours(&term);
    let differences = pending::differences(&store, &pending)?;
    let decided = review(&store, &pending, |number, _| {
        let page = Page::new(number, pending.len(), &differences[number]);
        Ok(ask(&term, &page, colour))
    })?;
    let _ = term.clear_screen();
    print(&format!(
        "{} accepted, {} rejected, {} left pending\n",
        decided.accepted, decided.rejected, decided.left
    ));
    Ok(if decided.left == 0 { Exit::Ok } else { Exit::Differs })
}

/// Does what is answered on each of `pending`.
fn review(
    store: &Store,
    pending: &[Pending],
    mut ask: impl FnMut(usize, &Pending) -> Result<Answer>,
) -> Result<Decided> {
    let mut decided = Decided::default();
    let mut rest = None;
    // Written together: what stands on several of them is written once.
    let mut accepted = Vec::new();
    for (number, one) in pending.iter().enumerate() {
        let answer = match rest {
            Some(answer) => answer,
            None => match ask(number, one)? {
                Answer::All(answer) => *rest.insert(answer.into()),
                answer => answer,
            },
        };
        match answer {
            Answer::Accept => {
                accepted.push(one.clone());
            }
            Answer::Reject => {
                pending::reject(store, std::slice::from_ref(one))?;
                decided.rejected += 1;
            }
            Answer::Skip => decided.left += 1,
            Answer::Quit | Answer::All(_) => {
                decided.left += pending.len() - number;
                break;
            }
        }
    }
    pending::accept(store, &accepted)?;
    decided.accepted = accepted.len();
    Ok(decided)
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Answer(Answer),
    /// So many rows down; up, if negative.
    Scroll(isize),
    /// So many screens.
    Turn(isize),
    /// The difference, or the whole of what was found.
    Toggle,
}

/// The keys of `cargo insta review`, and those of a pager.
fn command(key: &Key) -> Option<Command> {
    use Command::{Answer as Say, Scroll, Toggle, Turn};
    Some(match key {
        Key::Char('a') | Key::Enter => Say(Answer::Accept),
        Key::Char('A') => Say(Answer::All(Rest::Accept)),
        Key::Char('R') => Say(Answer::All(Rest::Reject)),
        Key::Char('S') => Say(Answer::All(Rest::Skip)),
        Key::Char('r') | Key::Escape => Say(Answer::Reject),
        Key::Char('s' | ' ') => Say(Answer::Skip),
        Key::Char('q') | Key::CtrlC => Say(Answer::Quit),
        Key::Char('d') => Toggle,
        Key::ArrowDown | Key::Char('j') => Scroll(1),
        Key::ArrowUp | Key::Char('k') => Scroll(-1),
        Key::PageDown => Turn(1),
        Key::PageUp => Turn(-1),
        Key::Home => Scroll(isize::MIN),
        Key::End => Scroll(isize::MAX),
        _ => return None,
    })
}

/// Shows a snapshot until there is an answer. A terminal that went away means quit.
fn ask(term: &Term, page: &Page, colour: bool) -> Answer {
    let (mut top, mut whole) = (0_usize, false);
    loop {
        let (height, width) = term.size_checked().map_or((24, 80), |(h, w)| (usize::from(h), usize::from(w)));
        let body = page.rows(whole, width, colour);
        let room = height.saturating_sub(Page::FRAME).max(1);
        top = top.min(body.len().saturating_sub(room));
        let _ = term.clear_screen();
        print(&page.screen(&body, top, room, whole, colour));
        // Another key means nothing.
        let command = loop {
            match term.read_key() {
                Ok(key) => {
                    if let Some(command) = command(&key) {
                        break command;
                    }
                }
                Err(_) => return Answer::Quit,
            }
        };
        match command {
            Command::Answer(answer) => return answer,
            Command::Scroll(rows) => top = top.saturating_add_signed(rows),
            Command::Turn(screens) => top = top.saturating_add_signed(screens * room.cast_signed()),
            Command::Toggle => (top, whole) = (0, !whole),
        }
    }
}

fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour && !text.is_empty() {
        style.force_styling(true).apply_to(text).to_string()
    } else {
        text.to_owned()
    }
}

/// A snapshot as it is shown.
struct Page {
    name: String,
    number: usize,
    of: usize,
    is_new: bool,
    hunks: Vec<Hunk>,
    left_out: usize,
    found: String,
}

impl Page {
    /// Rows of a screen that are not for the snapshot.
    const FRAME: usize = 5;

    fn new(number: usize, of: usize, difference: &Difference) -> Self {
        let Difference { id, expected, found } = difference;
        let (hunks, left_out) = hunks(expected.as_deref().unwrap_or_default(), found, LINES);
        let is_new = expected.is_none();
        Self { name: id.to_string(), number: number + 1, of, is_new, hunks, left_out, found: found.clone() }
    }

    /// The difference, or the `whole` of what was found, in rows of so many columns.
    fn rows(&self, whole: bool, width: usize, colour: bool) -> Vec<String> {
        let mut rows = Vec::new();
        if whole {
            for (at, line) in self.found.lines().enumerate() {
                let parts = Parts::alone(line);
                rows.extend(wrapped(&format!("{:>11}   ", at + 1), &parts, &Style::new(), width, colour));
            }
            return rows;
        }
        for (at, hunk) in self.hunks.iter().enumerate() {
            if at > 0 {
                rows.push("          ⋯".to_owned());
            }
            for line in &hunk.lines {
                let number =
                    |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
                let (sign, style) = match line.kind {
                    LineKind::Same => (' ', Style::new().dim()),
                    LineKind::Expected => ('-', Style::new().red()),
                    LineKind::Found => ('+', Style::new().green()),
                };
                let sign = paint(colour, style.clone(), &format!("{sign} "));
                let head = format!("{:>5} {:>5} {sign}", number(line.expected), number(line.found));
                rows.extend(wrapped(&head, &line.parts, &style, width, colour));
            }
        }
        if self.left_out > 0 {
            rows.push(format!("          ⋯ {} more lines", self.left_out));
        }
        rows
    }

    /// What a screen shows of `body`: where one is, `room` rows of it, and the keys.
    fn screen(&self, body: &[String], top: usize, room: usize, whole: bool, colour: bool) -> String {
        let count =
            |kind| self.hunks.iter().flat_map(|hunk| &hunk.lines).filter(|line| line.kind == kind).count();
        let what = if self.is_new {
            "new".to_owned()
        } else {
            format!(
                "{} {}",
                paint(colour, Style::new().green(), &format!("+{}", count(LineKind::Found))),
                paint(colour, Style::new().red(), &format!("-{}", count(LineKind::Expected)))
            )
        };
        let mut screen = format!(
            "{} ({} of {}) {what}\n\n",
            paint(colour, Style::new().bold(), &self.name),
            self.number,
            self.of
        );
        let last = (top + room).min(body.len());
        for row in &body[top..last] {
            screen.push_str(row);
            screen.push('\n');
        }
        let key = |key: &str| paint(colour, Style::new().bold(), key);
        let shown = if whole { "difference" } else { "whole" };
        let mut more = String::new();
        if body.len() > room {
            more = format!("   {} scroll ({}-{last} of {})", key("↑ ↓"), top + 1, body.len());
        }
        screen.push_str(&format!(
            "\n  {} accept   {} reject   {} skip   {} quit   {} {shown}{more}\n  {}, {}, {} the same for all that follow",
            key("a"),
            key("r"),
            key("s"),
            key("q"),
            key("d"),
            key("A"),
            key("R"),
            key("S")
        ));
        screen
    }
}

/// A line in rows of so many columns; the first begins with `head`. What changed in it is reversed.
fn wrapped(head: &str, line: &Parts, style: &Style, width: usize, colour: bool) -> Vec<String> {
    let room = width.saturating_sub(NUMBERS).max(20);
    let mut rows = vec![head.to_owned()];
    let mut left = room;
    let parts = [
        (&line.before, style.clone()),
        (&line.change, style.clone().reverse()),
        (&line.after, style.clone()),
    ];
    for (text, style) in parts {
        let mut piece = String::new();
        for c in printable(text).chars() {
            let columns = measure_text_width(c.encode_utf8(&mut [0; 4]));
            if columns > left {
                if let Some(row) = rows.last_mut() {
                    row.push_str(&paint(colour, style.clone(), &std::mem::take(&mut piece)));
                }
                rows.push(" ".repeat(NUMBERS));
                left = room;
            }
            piece.push(c);
            left -= columns.min(left);
        }
        if let Some(row) = rows.last_mut() {
            row.push_str(&paint(colour, style, &piece));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::write;

    fn three() -> (tempfile::TempDir, Vec<Pending>) {
        let folder = tempfile::tempdir().unwrap();
        let header = "---\nsource: x\nexpression: log\n---\n";
        for kind in ["ledger", "log", "results"] {
            write(folder.path(), &format!("expected/s/n/{kind}.snap.new"), &format!("{header}one\nnew\n"));
        }
        write(folder.path(), "expected/s/n/log.snap", &format!("{header}one\nold\n"));
        let pending = Store::new(folder.path()).pending().unwrap();
        (folder, pending)
    }

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::new(folder.path())
    }

    fn page_of(folder: &tempfile::TempDir, pending: &[Pending], at: usize) -> Page {
        Page::new(at, 3, &pending::differences(&store(folder), pending).unwrap()[at])
    }

    #[test]
    fn each_answer_does_what_it_says() {
        let (folder, pending) = three();
        let mut answers = [Answer::Skip, Answer::Accept, Answer::Reject].into_iter();
        let decided = review(&store(&folder), &pending, |_, _| Ok(answers.next().unwrap())).unwrap();
        assert_eq!(decided, Decided { accepted: 1, rejected: 1, left: 1 });
        let text = |name: &str| std::fs::read_to_string(folder.path().join("expected/s/n").join(name)).ok();
        assert!(text("ledger.snap").unwrap().ends_with("new\n"));
        assert!(text("log.snap").unwrap().ends_with("old\n"));
        let left = Store::new(folder.path()).pending().unwrap();
        assert_eq!(left.iter().map(|one| one.id.to_string()).collect::<Vec<_>>(), ["s/n/results"]);
    }

    #[test]
    fn quitting_leaves_the_rest_and_an_answer_for_all_is_asked_for_once() {
        let (folder, pending) = three();
        assert_eq!(review(&store(&folder), &pending, |_, _| Ok(Answer::Quit)).unwrap().left, 3);
        for rest in [Rest::Accept, Rest::Reject, Rest::Skip] {
            let (folder, pending) = three();
            let mut asked = 0;
            let decided = review(&store(&folder), &pending, |_, _| {
                asked += 1;
                Ok(Answer::All(rest))
            })
            .unwrap();
            let many = [decided.accepted, decided.rejected, decided.left];
            assert_eq!((many[rest as usize], asked), (3, 1));
        }
    }

    fn screen(page: &Page, top: usize, room: usize, whole: bool) -> String {
        page.screen(&page.rows(whole, 60, false), top, room, whole, false)
    }

    #[test]
    fn a_page_shows_what_changed() {
        let (folder, pending) = three();
        let page = page_of(&folder, &pending, 2);
        insta::assert_snapshot!(screen(&page, 0, 20, false), @r"
        s/n/log (3 of 3) +1 -1

            1     1   one
            2       - old
                  2 + new

          a accept   r reject   s skip   q quit   d whole
          A, R, S the same for all that follow
        ");
        insta::assert_snapshot!(screen(&page, 0, 20, true), @r"
        s/n/log (3 of 3) +1 -1

                  1   one
                  2   new

          a accept   r reject   s skip   q quit   d difference
          A, R, S the same for all that follow
        ");
        assert!(screen(&page_of(&folder, &pending, 0), 0, 20, false).contains("(1 of 3) new"));
    }

    #[test]
    fn what_is_longer_than_the_screen_is_scrolled_and_long_lines_are_wrapped() {
        let (folder, pending) = three();
        let header = "---\nsource: x\nexpression: log\n---\n";
        let long = |word: &str| format!("{header}one\n{} {word}\n", "so ".repeat(25));
        write(folder.path(), "expected/s/n/log.snap", &long("old"));
        write(folder.path(), "expected/s/n/log.snap.new", &long("new \u{1b}[31m"));
        let page = page_of(&folder, &pending, 2);
        insta::assert_snapshot!(screen(&page, 1, 2, false), @r"
        s/n/log (3 of 3) +1 -1

            2       - so so so so so so so so so so so so so so so s
                      o so so so so so so so so so  old

          a accept   r reject   s skip   q quit   d whole   ↑ ↓ scroll (2-3 of 5)
          A, R, S the same for all that follow
        ");
        let rows = page.rows(false, 60, true);
        assert!(rows[2].contains("\u{1b}[31m\u{1b}[7mold"), "{rows:?}");
        assert!(rows[4].contains("\\x1b"), "{rows:?}");
    }

    #[test]
    fn the_keys_are_those_of_insta_and_of_a_pager() {
        let answer = |key| match command(&key) {
            Some(Command::Answer(answer)) => Some(answer),
            _ => None,
        };
        assert_eq!(answer(Key::Char('a')), Some(Answer::Accept));
        assert_eq!(answer(Key::Enter), Some(Answer::Accept));
        assert_eq!(answer(Key::Escape), Some(Answer::Reject));
        assert_eq!(answer(Key::Char(' ')), Some(Answer::Skip));
        assert_eq!(answer(Key::Char('A')), Some(Answer::All(Rest::Accept)));
        assert_eq!(command(&Key::PageDown), Some(Command::Turn(1)));
        assert_eq!(command(&Key::Char('x')), None);
    }
}
