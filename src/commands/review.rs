//! `meta-lava review`: go through what differs, one cause after the other.
//!
//! One changed line of LAVA that shows in many scenarios is one question, with the list of
//! whom it concerns, and one answer. The keys are those of `cargo insta review`. What is
//! longer than the screen is scrolled.

use std::collections::BTreeMap;

use console::{Key, Style, Term, measure_text_width, truncate_str};

use crate::commands::accept::{chosen, refuse_in_ci};
use crate::commands::{matrix, print};
use crate::error::Result;
use crate::exit_code::Exit;
use crate::judge::meant::Meant;
use crate::judge::pending::{self, Difference};
use crate::judge::question::{self, Questions};
use crate::judge::snapshot::{Id, Kind, Store, in_ci};
use crate::lava::series::Series;
use crate::report::{Hunk, Line, LineKind, Parts, colours, hunks};
use crate::root::root;
use crate::scenario::Matrix;
use crate::text::printable;

/// Lines of a difference that are shown.
const LINES: usize = 4000;

/// Columns of a cause in the first line; the places below show all of it.
const TITLE: usize = 100;

/// Columns of the numbers of a difference's lines, and of the sign behind them.
const NUMBERS: usize = 14;

/// Options of `review`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenarios, by name or glob, or single snapshots such as `health-checks/bbb/log`; all of them
    /// when none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Forget what was found, without asking
    #[arg(long)]
    reject: bool,
}

/// What was answered to a question.
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

/// How many questions were answered in which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decided {
    accepted: usize,
    rejected: usize,
    left: usize,
}

/// Asks about what is pending. Without a terminal: lists it, and ends with 1 when there is any.
///
/// # Errors
/// [`Error::Usage`] where `CI` is set or a file is not a snapshot, [`Error::NoMatch`] for names that are not pending.
pub async fn run(args: Args) -> Result<Exit> {
    let store = Store::new(&root()?);
    let pending = chosen(store.pending()?, &args.names)?;
    let matrix = matrix()?;
    let stale = store.unreferenced(&matrix)?.len();
    if stale > 0 {
        eprintln!(
            "warning: no scenario refers to {stale} files of expected/: `meta-lava accept --unreferenced` removes them"
        );
    }
    if pending.is_empty() {
        print("no snapshots are pending\n");
        return Ok(Exit::Ok);
    }
    if args.reject {
        pending::reject(&store, &pending)?;
        print(&pending.iter().map(|one| format!("rejected {}\n", one.id)).collect::<String>());
        return Ok(Exit::Ok);
    }
    let term = Term::stdout();
    let differences = pending::differences(&store, &pending)?;
    let mut questions = pending::questions(&matrix, &differences);
    let remarks = Remarks::of(&matrix, &differences);
    if !term.is_term() || in_ci() {
        print(&listed(&questions, &differences, &remarks));
        return Ok(Exit::Differs);
    }
    refuse_in_ci("review", in_ci())?;
    let colour = colours(&term);
    let many = questions.list().len();
    let page = |number| Page::new(number, &questions, &differences, &remarks, &matrix);
    let pages: Vec<Page> = (0..many).map(page).collect();
    let refused = |number: usize| pages[number].refused;
    let decided = review(&mut questions, refused, |number| ask(&term, &pages[number], colour));
    let _ = term.clear_screen();
    pending::decide(&store, &matrix, &differences, &questions)?;
    print(&format!(
        "{} accepted, {} rejected, {} left pending\n",
        decided.accepted, decided.rejected, decided.left
    ));
    Ok(if decided.left == 0 { Exit::Ok } else { Exit::Differs })
}

/// What of pending results should not be overlooked.
struct Remarks(BTreeMap<(String, Series), Meant>);

impl Remarks {
    fn of(matrix: &Matrix, differences: &[Difference]) -> Self {
        Self(pending::remarks(matrix, differences))
    }

    fn of_scenario(&self, id: &Id) -> Option<&Meant> {
        self.0.get(&(id.scenario(), id.series))
    }

    /// A line for each.
    fn text(&self) -> String {
        let lines = |((scenario, series), meant): (&(String, Series), &Meant)| -> String {
            let on = if *series == Series::OLDEST { String::new() } else { format!(" on {series}") };
            let line = |line: String| format!("note: {scenario}{on}: {}\n", printable(&line));
            meant.lines().into_iter().map(line).collect()
        };
        self.0.iter().map(lines).collect()
    }
}

/// What there is to review, for who can't be asked: a line for each question and one with whom it concerns.
fn listed(questions: &Questions, differences: &[Difference], remarks: &Remarks) -> String {
    let mut text = remarks.text();
    for question in questions.list() {
        let names: Vec<String> =
            question.places.iter().map(|(at, _)| differences[*at].id.to_string()).collect();
        match &question.cause {
            None => text.push_str(&format!("{}: new\n", names.join(" "))),
            Some(cause) => {
                text.push_str(&format!("{} {}: {}\n", names.len(), cause.snapshot, cause.in_a_line()));
                text.push_str(&format!("  {}\n", names.join(" ")));
            }
        }
    }
    text
}

/// Asks each question, until there is no more or nobody wants to answer. What is `refused` is not
/// accepted, whatever the answer is.
fn review(
    questions: &mut Questions,
    refused: impl Fn(usize) -> bool,
    mut ask: impl FnMut(usize) -> Answer,
) -> Decided {
    let mut decided = Decided::default();
    let mut rest = None;
    let many = questions.list().len();
    for number in 0..many {
        let answer = match rest {
            Some(answer) => answer,
            None => match ask(number) {
                Answer::All(answer) => *rest.insert(answer.into()),
                answer => answer,
            },
        };
        match answer {
            Answer::Accept if refused(number) => decided.left += 1,
            Answer::Accept => {
                questions.answer(number, question::Answer::Accept);
                decided.accepted += 1;
            }
            Answer::Reject => {
                questions.answer(number, question::Answer::Reject);
                decided.rejected += 1;
            }
            Answer::Skip => decided.left += 1,
            Answer::Quit | Answer::All(_) => {
                decided.left += many - number;
                break;
            }
        }
    }
    decided
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Answer(Answer),
    /// So many rows down; up, if negative.
    Scroll(isize),
    /// So many screens.
    Turn(isize),
    /// The first place, or all of them.
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

/// Shows a question until there is an answer. A terminal that went away means quit.
fn ask(term: &Term, page: &Page, colour: bool) -> Answer {
    let (mut top, mut all) = (0_usize, false);
    loop {
        let (height, width) = term.size_checked().map_or((24, 80), |(h, w)| (usize::from(h), usize::from(w)));
        let body = page.rows(all, width, colour);
        let room = height.saturating_sub(Page::FRAME).max(1);
        top = top.min(body.len().saturating_sub(room));
        let _ = term.clear_screen();
        print(&page.screen(&body, top, room, all, colour));
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
            // The page says why.
            Command::Answer(Answer::Accept) if page.refused => {}
            Command::Answer(answer) => return answer,
            Command::Scroll(rows) => top = top.saturating_add_signed(rows),
            Command::Turn(screens) => top = top.saturating_add_signed(screens * room.cast_signed()),
            Command::Toggle => (top, all) = (0, !all),
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

/// A question as it is shown.
struct Page {
    /// The snapshot that it is about, or the cause.
    name: String,
    number: usize,
    of: usize,
    /// Whether nothing is expected yet.
    is_new: bool,
    /// In how many places.
    times: usize,
    /// The scenarios that it concerns, and what it is in the first of them.
    places: Vec<(String, Vec<Hunk>)>,
    left_out: usize,
    /// What should not be overlooked.
    remarks: Vec<String>,
    /// Whether it can't be accepted: the job ended as its scenario does not say.
    refused: bool,
}

impl Page {
    /// Rows of a screen that are not for the snapshot.
    const FRAME: usize = 5;

    fn new(
        number: usize,
        questions: &Questions,
        differences: &[Difference],
        remarks: &Remarks,
        matrix: &Matrix,
    ) -> Self {
        let question = &questions.list()[number];
        let (mut said, mut refused) = (Vec::new(), false);
        for (at, _) in &question.places {
            let id = &differences[*at].id;
            if question.cause.is_none() {
                // Ledger and log are of the same job.
                let meant = remarks.of_scenario(id);
                said.extend(meant.map(Meant::lines).unwrap_or_default());
                refused |= meant.is_some_and(|meant| meant.otherwise.is_some());
            }
            if (question.cause.is_some() || id.kind == Kind::Log)
                && let Some(why) = pending::otherwise(matrix, id, &questions.shown(question, *at).1)
            {
                said.push(format!("{}: {why}", id.scenario()));
                refused = true;
            }
        }
        let (mut room, mut left_out) = (LINES, 0);
        let mut places = Vec::new();
        for (at, _) in &question.places {
            let (expected, shown) = questions.shown(question, *at);
            let (hunks, more) = hunks(&expected, &shown, room);
            room -= hunks.iter().map(|hunk| hunk.lines.len()).sum::<usize>().min(room);
            left_out += more;
            places.push((differences[*at].id.to_string(), hunks));
        }
        let name = match &question.cause {
            None => places.first().map(|(name, _)| name.clone()).unwrap_or_default(),
            Some(cause) => format!("{}: {}", cause.snapshot, truncate_str(&cause.in_a_line(), TITLE, "…")),
        };
        Self {
            name,
            number: number + 1,
            of: questions.list().len(),
            is_new: question.cause.is_none(),
            times: Questions::times(question),
            places,
            left_out,
            remarks: said,
            refused,
        }
    }

    /// The first place and whom it concerns, or `all` places, in rows of so many columns.
    fn rows(&self, all: bool, width: usize, colour: bool) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for remark in &self.remarks {
            rows.extend(wrapped(
                "note          ",
                &Parts::alone(remark),
                &Style::new().yellow(),
                width,
                colour,
            ));
        }
        if !self.remarks.is_empty() {
            rows.push(String::new());
        }
        let shown = if all { self.places.len() } else { 1 };
        for (name, hunks) in self.places.iter().take(shown) {
            if !self.is_new {
                rows.push(paint(colour, Style::new().dim(), name));
            }
            for (at, hunk) in hunks.iter().enumerate() {
                if at > 0 {
                    rows.push("          ⋯".to_owned());
                }
                for line in &hunk.lines {
                    rows.extend(row(line, width, colour));
                }
            }
        }
        if self.left_out > 0 && (all || self.places.len() == 1) {
            rows.push(format!("          ⋯ {} more lines", self.left_out));
        }
        if !all && self.places.len() > 1 {
            let names: Vec<&str> = self.places.iter().skip(1).map(|(name, _)| name.as_str()).collect();
            let line = Parts::alone(&names.join(" "));
            rows.push(String::new());
            rows.extend(wrapped("and in        ", &line, &Style::new().dim(), width, colour));
        }
        rows
    }

    /// What a screen shows of `body`: where one is, `room` rows of it, and the keys.
    fn screen(&self, body: &[String], top: usize, room: usize, all: bool, colour: bool) -> String {
        let what = match (self.is_new, self.places.len()) {
            (true, _) => "new".to_owned(),
            (_, 1) => format!("{} in one snapshot", count(self.times, "place")),
            (_, many) => format!("{} in {many} snapshots", count(self.times, "place")),
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
        let shown = if all { "the first" } else { "all places" };
        let mut more = String::new();
        if body.len() > room {
            more = format!("   {} scroll ({}-{last} of {})", key("↑ ↓"), top + 1, body.len());
        }
        let accept = if self.refused { "(can't be accepted)" } else { "accept" };
        screen.push_str(&format!(
            "\n  {} {accept}   {} reject   {} skip   {} quit   {} {shown}{more}\n  {}, {}, {} the same for all that follow",
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

/// A line of a hunk, with its numbers.
fn row(line: &Line, width: usize, colour: bool) -> Vec<String> {
    let number = |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
    let (sign, style) = match line.kind {
        LineKind::Same => (' ', Style::new().dim()),
        LineKind::Expected => ('-', Style::new().red()),
        LineKind::Found => ('+', Style::new().green()),
    };
    let sign = paint(colour, style.clone(), &format!("{sign} "));
    let head = format!("{:>5} {:>5} {sign}", number(line.expected), number(line.found));
    wrapped(&head, &line.parts, &style, width, colour)
}

/// `1 place`, `2 places`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
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
    use crate::judge::change::Names;
    use crate::judge::snapshot::Pending;
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

    fn questions(folder: &tempfile::TempDir, pending: &[Pending]) -> (Questions, Vec<Difference>) {
        let differences = pending::differences(&Store::new(folder.path()), pending).unwrap();
        let texts = differences.iter().map(|one| question::Text {
            snapshot: one.id.kind.name(),
            expected: one.expected.as_deref().map(str::to_owned),
            found: one.found.clone(),
            names: Names::default(),
        });
        (Questions::new(texts.collect()), differences)
    }

    fn page_of(folder: &tempfile::TempDir, pending: &[Pending], at: usize) -> Page {
        let (questions, differences) = questions(folder, pending);
        let matrix = crate::scenario::tests::matrix();
        Page::new(at, &questions, &differences, &Remarks::of(&matrix, &differences), &matrix)
    }

    #[test]
    fn each_answer_does_what_it_says() {
        let (folder, pending) = three();
        let (mut questions, differences) = questions(&folder, &pending);
        let mut answers = [Answer::Reject, Answer::Skip, Answer::Accept].into_iter();
        let decided = review(&mut questions, |_| false, |_| answers.next().unwrap());
        assert_eq!(decided, Decided { accepted: 1, rejected: 1, left: 1 });
        let store = Store::new(folder.path());
        pending::decide(&store, &crate::scenario::tests::matrix(), &differences, &questions).unwrap();
        let text = |name: &str| std::fs::read_to_string(folder.path().join("expected/s/n").join(name)).ok();
        assert!(text("log.snap").unwrap().ends_with("old\n"));
        let left: Vec<String> = store.pending().unwrap().iter().map(|one| one.id.to_string()).collect();
        let accepted =
            ["ledger", "results"].into_iter().filter(|kind| text(&format!("{kind}.snap")).is_some());
        assert_eq!((left.len(), accepted.count()), (1, 1));
    }

    #[test]
    fn quitting_leaves_the_rest_and_an_answer_for_all_is_asked_for_once() {
        let (folder, pending) = three();
        assert_eq!(review(&mut questions(&folder, &pending).0, |_| false, |_| Answer::Quit).left, 3);
        for rest in [Rest::Accept, Rest::Reject, Rest::Skip] {
            let mut asked = 0;
            let mut ask = |_| {
                asked += 1;
                Answer::All(rest)
            };
            let decided = review(&mut questions(&folder, &pending).0, |_| false, &mut ask);
            let many = [decided.accepted, decided.rejected, decided.left];
            assert_eq!((many[rest as usize], asked), (3, 1));
        }
    }

    #[test]
    fn who_can_not_be_asked_gets_a_list() {
        let (folder, pending) = three();
        let (questions, differences) = questions(&folder, &pending);
        let remarks = Remarks::of(&crate::scenario::tests::matrix(), &differences);
        insta::assert_snapshot!(listed(&questions, &differences, &remarks), @r"
        1 log: old → new
          s/n/log
        s/n/results: new
        s/n/ledger: new
        ");
    }

    #[test]
    fn what_ended_as_its_scenario_does_not_say_is_told_and_can_not_be_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let header = "---\nsource: x\nexpression: results\n---\n";
        let results =
            "job\n  health: Incomplete\nsuite lava\n  job: fail (error_msg: no file, error_type: Job)\n";
        let file = |name: &str, text: &str| {
            write(
                folder.path(),
                &format!("expected/health-checks/{name}.snap.new"),
                &format!("{header}{text}"),
            );
        };
        file("bbb/results", &format!("{results}suite 0_smoke\n  cmdline: fail\n"));
        file("bbb/log", "one\n");
        file("juno/results", results);
        let expected = format!("{header}job\n  health: Complete\nsuite lava\n");
        write(folder.path(), "expected/health-checks/juno/results.snap", &expected);
        let pending = Store::new(folder.path()).pending().unwrap();
        let pages: Vec<Page> = (0..4).map(|at| page_of(&folder, &pending, at)).collect();
        // The error that juno's results have now, their health, and bbb's results and log.
        assert_eq!(pages.iter().map(|page| page.refused).collect::<Vec<_>>(), [false, true, true, true]);
        let page = pages[3].screen(&pages[3].rows(false, 200, false), 0, 20, false, false);
        assert!(
            page.contains("note          the job ended Incomplete (Job: no file), and its scenario"),
            "{page}"
        );
        assert!(page.contains("not made to fail (`fails:`): 0_smoke cmdline"), "{page}");
        assert!(page.contains("a (can't be accepted)"), "{page}");
        let (mut questions, differences) = questions(&folder, &pending);
        let decided = review(&mut questions, |at| pages[at].refused, |_| Answer::All(Rest::Accept));
        assert_eq!(decided, Decided { accepted: 1, rejected: 0, left: 3 });
        let remarks = Remarks::of(&crate::scenario::tests::matrix(), &differences);
        assert!(listed(&questions, &differences, &remarks).starts_with(
            "note: health-checks/bbb: the job ended Incomplete (Job: no file), and its scenario does not say \
             `ends: incomplete`\nnote: health-checks/bbb: not made to fail (`fails:`): 0_smoke cmdline\n"
        ));
    }

    fn screen(page: &Page, top: usize, room: usize, all: bool) -> String {
        page.screen(&page.rows(all, 60, false), top, room, all, false)
    }

    #[test]
    fn a_page_shows_what_changed_and_whom_it_concerns() {
        let (folder, pending) = three();
        insta::assert_snapshot!(screen(&page_of(&folder, &pending, 0), 0, 20, false), @r"
        log: old → new (1 of 3) 1 place in one snapshot

        s/n/log
            1     1   one
            2       - old
                  2 + new

          a accept   r reject   s skip   q quit   d all places
          A, R, S the same for all that follow
        ");
        assert!(screen(&page_of(&folder, &pending, 1), 0, 20, false).contains("(2 of 3) new"));
        for name in ["m", "o"] {
            let header = "---\nsource: x\nexpression: log\n---\n";
            write(
                folder.path(),
                &format!("expected/s/{name}/log.snap"),
                &format!("{header}old word of {name}\n"),
            );
            write(
                folder.path(),
                &format!("expected/s/{name}/log.snap.new"),
                &format!("{header}new word of {name}\n"),
            );
        }
        let pending = Store::new(folder.path()).pending().unwrap();
        insta::assert_snapshot!(screen(&page_of(&folder, &pending, 0), 0, 20, false), @r"
        log: old → new (1 of 3) 3 places in 3 snapshots

        s/m/log
            1       - old word of m
                  1 + new word of m

        and in        s/n/log s/o/log

          a accept   r reject   s skip   q quit   d all places
          A, R, S the same for all that follow
        ");
        assert!(screen(&page_of(&folder, &pending, 0), 0, 20, true).contains("s/o/log\n"));
    }

    #[test]
    fn what_is_longer_than_the_screen_is_scrolled_and_long_lines_are_wrapped() {
        let (folder, pending) = three();
        let header = "---\nsource: x\nexpression: log\n---\n";
        let long = |word: &str| format!("{header}one\n{} {word}\n", "so ".repeat(25));
        write(folder.path(), "expected/s/n/log.snap", &long("old"));
        write(folder.path(), "expected/s/n/log.snap.new", &long("new \u{1b}[31m"));
        let page = page_of(&folder, &pending, 0);
        insta::assert_snapshot!(screen(&page, 2, 2, false), @r"
        log: old → new \x1b[31m (1 of 3) 1 place in one snapshot

            2       - so so so so so so so so so so so so so so so s
                      o so so so so so so so so so  old

          a accept   r reject   s skip   q quit   d all places   ↑ ↓ scroll (3-4 of 6)
          A, R, S the same for all that follow
        ");
        let rows = page.rows(false, 60, true);
        assert!(rows[3].contains("\u{1b}[31m\u{1b}[7mold"), "{rows:?}");
        assert!(rows[5].contains("\\x1b"), "{rows:?}");
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
