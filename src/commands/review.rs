//! `meta-lava review`: go through pending snapshots.
//!
//! One at a time, with its difference; the keys are those of `cargo insta review`,
//! which works too.

use console::{Key, Style, Term};

use crate::commands::accept::{accept, chosen, refuse_in_ci, reject};
use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::report::{LineKind, colours, hunks};
use crate::root::root;
use crate::snapshot::{self, Pending, Store, in_ci};

/// Lines of a difference that are shown.
const LINES: usize = 400;

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
            print(&format!("{}\n", one.name));
        }
        return Ok(Exit::Differs);
    }
    refuse_in_ci("review", in_ci())?;
    let colour = colours(&term);
    let decided = review(&pending, |number, one| {
        let _ = term.clear_screen();
        print(&page(number, pending.len(), one, colour)?);
        Ok(ask(&term))
    })?;
    print(&format!(
        "{} accepted, {} rejected, {} left pending\n",
        decided.accepted, decided.rejected, decided.left
    ));
    Ok(if decided.left == 0 { Exit::Ok } else { Exit::Differs })
}

/// Does what is answered on each of `pending`.
fn review(pending: &[Pending], mut ask: impl FnMut(usize, &Pending) -> Result<Answer>) -> Result<Decided> {
    let mut decided = Decided::default();
    let mut rest = None;
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
                accept(one)?;
                decided.accepted += 1;
            }
            Answer::Reject => {
                reject(one)?;
                decided.rejected += 1;
            }
            Answer::Skip => decided.left += 1,
            Answer::Quit | Answer::All(_) => {
                decided.left += pending.len() - number;
                break;
            }
        }
    }
    Ok(decided)
}

/// Waits for a key that means something. A terminal that went away means quit.
fn ask(term: &Term) -> Answer {
    loop {
        match term.read_key() {
            Ok(Key::Char('a') | Key::Enter) => return Answer::Accept,
            Ok(Key::Char('A')) => return Answer::All(Rest::Accept),
            Ok(Key::Char('R')) => return Answer::All(Rest::Reject),
            Ok(Key::Char('S')) => return Answer::All(Rest::Skip),
            Ok(Key::Char('r') | Key::Escape) => return Answer::Reject,
            Ok(Key::Char('s' | ' ')) => return Answer::Skip,
            Ok(Key::Char('q') | Key::CtrlC) | Err(_) => return Answer::Quit,
            Ok(_) => {}
        }
    }
}

/// A snapshot as it is shown: its name, what changed, and the keys.
fn page(number: usize, of: usize, one: &Pending, colour: bool) -> Result<String> {
    let text = |path| snapshot::read(path).map_err(|problem| Error::Usage(problem.to_string()));
    let found = text(&one.new)?.unwrap_or_default();
    let expected = text(&one.snap)?;
    let paint = |style: Style, text: String| {
        if colour { style.force_styling(true).apply_to(text).to_string() } else { text }
    };
    let mut page = format!(
        "{} ({} of {of}){}\n\n",
        paint(Style::new().bold(), one.name.clone()),
        number + 1,
        if expected.is_none() { ", new" } else { "" }
    );
    let (hunks, left_out) = hunks(expected.as_deref().unwrap_or_default(), &found, LINES);
    for (at, hunk) in hunks.iter().enumerate() {
        if at > 0 {
            page.push_str("      ⋯\n");
        }
        for line in &hunk.lines {
            let number = |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
            let (sign, style) = match line.kind {
                LineKind::Same => (' ', Style::new().dim()),
                LineKind::Expected => ('-', Style::new().red()),
                LineKind::Found => ('+', Style::new().green()),
            };
            page.push_str(&format!("{:>5} {:>5} ", number(line.expected), number(line.found)));
            page.push_str(&paint(style, format!("{sign} {}", line.text)));
            page.push('\n');
        }
    }
    if left_out > 0 {
        page.push_str(&format!("      ⋯ {left_out} more lines\n"));
    }
    page.push_str("\n  a accept   r reject   s skip   A, R, S the same for all that follow   q quit\n");
    Ok(page)
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

    #[test]
    fn each_answer_does_what_it_says() {
        let (folder, pending) = three();
        let mut answers = [Answer::Accept, Answer::Reject, Answer::Skip].into_iter();
        let decided = review(&pending, |_, _| Ok(answers.next().unwrap())).unwrap();
        assert_eq!(decided, Decided { accepted: 1, rejected: 1, left: 1 });
        let text = |name: &str| std::fs::read_to_string(folder.path().join("expected/s/n").join(name)).ok();
        assert!(text("ledger.snap").unwrap().ends_with("new\n"));
        assert!(text("log.snap").unwrap().ends_with("old\n"));
        let left = Store::new(folder.path()).pending().unwrap();
        assert_eq!(left.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["s/n/results"]);
    }

    #[test]
    fn quitting_leaves_the_rest_and_an_answer_for_all_is_asked_for_once() {
        let (_folder, pending) = three();
        assert_eq!(review(&pending, |_, _| Ok(Answer::Quit)).unwrap().left, 3);
        for rest in [Rest::Accept, Rest::Reject, Rest::Skip] {
            let (_folder, pending) = three();
            let mut asked = 0;
            let decided = review(&pending, |_, _| {
                asked += 1;
                Ok(Answer::All(rest))
            })
            .unwrap();
            let many = [decided.accepted, decided.rejected, decided.left];
            assert_eq!((many[rest as usize], asked), (3, 1));
        }
    }

    #[test]
    fn a_page_shows_what_changed() {
        let (_folder, pending) = three();
        insta::assert_snapshot!(page(1, 3, &pending[1], false).unwrap(), @r"
        s/n/log (2 of 3)

            1     1   one
            2       - old
                  2 + new

          a accept   r reject   s skip   A, R, S the same for all that follow   q quit
        ");
        assert!(page(0, 3, &pending[0], true).unwrap().contains(", new"));
    }
}
