//! What differs between two texts of one scenario, piece by piece.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::Kind;
use super::shape::{self, ActionsOfJobs, Line, ORDER, common, is_of_pipeline, shape};
use crate::judge::change::{Names, changes};
use crate::judge::snapshot;
use crate::text::printable;

/// One thing that differs, without what is particular to the place where it does. What is equal in
/// many places is one cause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Piece {
    /// A scenario came to something else.
    Verdict {
        /// On the first side.
        from: String,
        /// On the second.
        to: String,
    },
    /// A line that only the first side has.
    Gone {
        /// The line.
        line: String,
    },
    /// A line that only the second side has.
    Came {
        /// The line.
        line: String,
    },
    /// Words of a line that became others.
    Became {
        /// Those of the first side and of the second, pair by pair; one of a pair may be empty.
        words: Vec<(String, String)>,
        /// The kind of line, where the words alone say little.
        line: Option<String>,
    },
    /// A file that has the same name and other content.
    Content {
        /// Its line, with `…` for the checksum.
        line: String,
    },
    /// A line that stands elsewhere.
    Moved {
        /// The line.
        line: String,
        /// Where it stands now.
        within: String,
    },
    /// LAVA numbers the actions of its jobs in another way.
    Numbered,
    /// Nothing but the order of lines.
    Order,
    /// It takes another time.
    Time {
        /// What takes it.
        stage: String,
        /// Whether it takes longer on the second side.
        slower: bool,
    },
}

impl Piece {
    /// It in a line, fit for a terminal.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let text = |text: &str| printable(text.trim());
        match self {
            Self::Verdict { from, to } => format!("{} → {}", text(from), text(to)),
            Self::Gone { line } => format!("- {}", text(line)),
            Self::Came { line } => format!("+ {}", text(line)),
            Self::Became { words, line } => {
                let pair =
                    |(from, to): &(String, String)| match (from.trim().is_empty(), to.trim().is_empty()) {
                        (false, false) => format!("{} → {}", text(from), text(to)),
                        (false, true) => format!("without {}", text(from)),
                        (true, false) => format!("with {}", text(to)),
                        (true, true) => "other blanks".to_owned(),
                    };
                let words: Vec<String> = words.iter().map(pair).collect();
                let line = line.as_ref().map(|line| format!("{}: ", text(line))).unwrap_or_default();
                format!("{line}{}", words.join(", "))
            }
            Self::Content { line } => format!("other content: {}", text(line)),
            Self::Moved { line, within } => format!("moved, in {}: {}", text(within), text(line)),
            Self::Numbered => "actions are numbered anew".to_owned(),
            Self::Order => "lines in another order".to_owned(),
            Self::Time { stage, slower: true } => format!("{stage} takes longer"),
            Self::Time { stage, slower: false } => format!("{stage} takes less time"),
        }
    }
}

/// A [`Piece`] where it was found.
#[derive(Debug, Clone)]
pub struct Item {
    /// What it is a difference of.
    pub kind: Kind,
    /// What it is.
    pub piece: Piece,
    /// Which change of the texts it is of: what always stands in the same changes has one cause.
    pub block: usize,
    /// Lines of the two snapshots' files, from 1.
    pub at: [Option<usize>; 2],
}

/// The three texts of a scenario on one side, in the order of [`snapshot::Kind::ALL`].
pub type Texts = [String; 3];

/// All that differs between the texts of a scenario on two sides.
#[must_use]
pub fn items(a: &Texts, b: &Texts, names: &Names) -> Vec<Item> {
    let actions = [a, b].map(|texts| shape::actions(&texts[2]));
    let mut found = Found { names, items: Vec::new(), block: 0, sections: BTreeMap::new() };
    for (at, kind) in snapshot::Kind::ALL.into_iter().enumerate() {
        if a[at] != b[at] {
            found.text(kind, [&a[at], &b[at]], &actions);
        }
    }
    found.items
}

struct Found<'a> {
    names: &'a Names,
    items: Vec<Item>,
    block: usize,
    /// The section of each line of the second text that the first has not there.
    sections: BTreeMap<usize, String>,
}

impl Found<'_> {
    fn text(&mut self, kind: snapshot::Kind, texts: [&str; 2], actions: &[ActionsOfJobs; 2]) {
        let [a, b] = [0, 1].map(|side| shape(kind, texts[side], &actions[side]));
        let before = self.items.len();
        self.sections.clear();
        let mut numbered = BTreeMap::new();
        let sections: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        let none = Vec::new();
        for name in sections {
            let [ours, theirs] = [&a, &b].map(|side| side.get(name).unwrap_or(&none));
            let (ours, theirs) = match name.ends_with(ORDER) {
                true => (common(ours, theirs), common(theirs, ours)),
                false => (ours.clone(), theirs.clone()),
            };
            if ours.iter().map(|line| &line.raw).ne(theirs.iter().map(|line| &line.raw)) {
                self.section(kind, name, ours, theirs, &mut numbered);
            }
        }
        for (of, at) in numbered {
            self.block += 1;
            self.push(of, Piece::Numbered, at);
        }
        self.find_moved(before);
        if self.items.len() == before {
            // What is told apart by sections would be lost here: the texts are not equal.
            self.block += 1;
            self.push(Kind::of(kind, ""), Piece::Order, [None, None]);
        }
    }

    /// Two sections of one name that are not equal. The first lines that differ by nothing but the numbers
    /// of actions become `numbered`.
    fn section(
        &mut self,
        kind: snapshot::Kind,
        name: &str,
        a: Vec<Line>,
        b: Vec<Line>,
        numbered: &mut BTreeMap<Kind, [Option<usize>; 2]>,
    ) {
        let (a, b) = self.without_moved(kind, name, a, b);
        let text =
            |lines: &[Line]| lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
        let found = changes(kind.name(), &text(&a), &text(&b), self.names);
        let (mut at, mut there) = (0, 0);
        let ends = std::iter::once((a.len()..a.len(), b.len()..b.len()));
        let ranges = found.iter().map(|change| (change.expected.clone(), change.found.clone()));
        let mut same = Vec::new();
        for (gone, came) in ranges.chain(ends) {
            same.extend((at..gone.start).zip(there..came.start));
            (at, there) = (gone.end, came.end);
        }
        for (ours, theirs) in same.into_iter().map(|(ours, theirs)| (&a[ours], &b[theirs])) {
            if ours.text != theirs.text {
                // Equal but for the scenario's own names: one took the place of another.
                self.block += 1;
                for change in changes(kind.name(), &ours.text, &theirs.text, &Names::default()) {
                    self.line((kind, name), ours, theirs, &change.cause.expected, &change.cause.found);
                }
            } else if ours.raw != theirs.raw {
                let of = Kind::of(kind, &ours.text);
                numbered.entry(of).or_insert([Some(ours.at), Some(theirs.at)]);
            }
        }
        for change in found {
            self.block += 1;
            let (gone, came) = (&a[change.expected.clone()], &b[change.found.clone()]);
            if let ([ours], [theirs], true) = (gone, came, change.in_words) {
                self.line((kind, name), ours, theirs, &change.cause.expected, &change.cause.found);
                continue;
            }
            for line in gone {
                let piece = Piece::Gone { line: self.general(&line.text) };
                self.push(Kind::of(kind, &line.text), piece, [Some(line.at), None]);
            }
            for line in came {
                let piece = Piece::Came { line: self.general(&line.text) };
                self.push(Kind::of(kind, &line.text), piece, [None, Some(line.at)]);
                self.sections.insert(line.at, name.to_owned());
            }
        }
    }

    /// Takes out the lines that both sides of a section have in another order: where they are gone, others
    /// would be taken for what became of them.
    fn without_moved(
        &mut self,
        kind: snapshot::Kind,
        section: &str,
        a: Vec<Line>,
        b: Vec<Line>,
    ) -> (Vec<Line>, Vec<Line>) {
        let [ours, theirs] =
            [&a, &b].map(|lines| lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>());
        let (mut gone, mut came) = (BTreeMap::<&str, Vec<usize>>::new(), Vec::new());
        for op in capture_diff_slices(Algorithm::Patience, &ours, &theirs) {
            if !matches!(op, DiffOp::Equal { .. }) {
                for at in op.old_range() {
                    gone.entry(ours[at]).or_default().push(at);
                }
                came.extend(op.new_range());
            }
        }
        for places in gone.values_mut() {
            places.reverse();
        }
        let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
        self.block += 1;
        for now in came {
            if let Some(was) = gone.get_mut(theirs[now]).and_then(Vec::pop) {
                let (was_at, line) = (a[was].at, &b[now]);
                let piece = Piece::Moved { line: self.general(&line.text), within: self.general(section) };
                self.push(Kind::of(kind, &line.text), piece, [Some(was_at), Some(line.at)]);
                from.insert(was);
                to.insert(now);
            }
        }
        let left = |lines: Vec<Line>, taken: &BTreeSet<usize>| {
            let lines = lines.into_iter().enumerate();
            lines.filter(|(at, _)| !taken.contains(at)).map(|(_, line)| line).collect::<Vec<_>>()
        };
        (left(a, &from), left(b, &to))
    }

    /// A line that changed in some words.
    fn line(
        &mut self,
        (kind, section): (snapshot::Kind, &str),
        a: &Line,
        b: &Line,
        from: &[String],
        to: &[String],
    ) {
        let of = Kind::of(kind, &b.text);
        let at = [Some(a.at), Some(b.at)];
        let pairs = from.iter().zip(to).map(|(from, to)| trimmed(&without_sums(from), &without_sums(to)));
        let (same, mut words): (Vec<_>, Vec<_>) = pairs.partition(|(from, to)| from == to);
        if !same.is_empty() {
            self.push(of, Piece::Content { line: self.general(&b.text) }, at);
        }
        words.dedup();
        if !words.is_empty() {
            let lines = [a, b].map(|line| pattern(without_action(&self.general(&line.text))));
            let [one, other] = lines;
            let line = if other.len() < one.len() { other } else { one };
            // Whose name changed in the whole pipeline does not matter; whose time did, does.
            let is_number =
                words.iter().any(|(from, to)| pattern(from).contains('#') || pattern(to).contains('#'));
            let whole = is_of_pipeline(section) && !is_number;
            let line = Some(if whole { "the pipeline".to_owned() } else { line });
            self.push(of, Piece::Became { words, line }, at);
        }
    }

    fn push(&mut self, kind: Kind, piece: Piece, at: [Option<usize>; 2]) {
        self.items.push(Item { kind, piece, block: self.block, at });
    }

    fn general(&self, line: &str) -> String {
        without_sums(&self.names.hide(line))
    }

    /// What is gone in one place and came in another has moved; what moved in one section has one cause.
    fn find_moved(&mut self, from: usize) {
        let mut gone: BTreeMap<(Kind, String), Vec<usize>> = BTreeMap::new();
        for (place, item) in self.items.iter().enumerate().skip(from) {
            if let Piece::Gone { line } = &item.piece {
                gone.entry((item.kind, line.clone())).or_default().push(place);
            }
        }
        for places in gone.values_mut() {
            places.reverse();
        }
        let mut taken = BTreeSet::new();
        for place in from..self.items.len() {
            let Piece::Came { line } = &self.items[place].piece else { continue };
            let line = line.clone();
            let Some(was) = gone.get_mut(&(self.items[place].kind, line.clone())).and_then(Vec::pop) else {
                continue;
            };
            self.items[place].at[0] = self.items[was].at[0];
            let section = self.items[place].at[1].and_then(|at| self.sections.get(&at));
            let within = section.map(|section| self.general(section)).unwrap_or_default();
            self.items[place].piece = Piece::Moved { line, within };
            taken.insert(was);
        }
        let mut place = 0;
        self.items.retain(|_| {
            place += 1;
            !taken.contains(&(place - 1))
        });
    }
}

/// `text` with `…` for checksums: that a file has another content is one cause, whichever it is.
fn without_sums(text: &str) -> String {
    static SUMS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b[0-9a-f]{16,}\b")
            .unwrap_or_else(|error| unreachable!("the pattern is a constant: {error}"))
    });
    SUMS.replace_all(text, "…").into_owned()
}

/// A line of LAVA's log without the name of the action in front: `login-action: Wait for prompt …`.
fn without_action(line: &str) -> &str {
    let is_name = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let rest = line.split_once(" | ").map_or(line, |(_, text)| text);
    rest.split_once(": ").filter(|(name, _)| is_name(name)).map_or(rest, |(_, rest)| rest)
}

/// What a line has in common with those that other scenarios have in its place: no values, paths or
/// numbers.
#[must_use]
pub fn pattern(line: &str) -> String {
    static VALUES: LazyLock<Regex> = LazyLock::new(|| {
        // A value of JSON with its key; a text in quotes; a word with a digit or of a path.
        let pattern = r#""([A-Za-z_ -]+)": (?:"(?:[^"\\]|\\.)*"|[0-9.]+)|'[^']*'|[^\s"'(){}\[\],]*[0-9/=.][^\s"'(){}\[\],]*"#;
        Regex::new(pattern).unwrap_or_else(|error| unreachable!("the pattern is a constant: {error}"))
    });
    VALUES
        .replace_all(line, |found: &Captures<'_>| match found.get(1) {
            // It is what a line of results is about.
            Some(key) if key.as_str() == "case" => found[0].to_owned(),
            Some(key) => format!("\"{}\": …", key.as_str()),
            None if is_number(&found[0]) => "#".to_owned(),
            None => "…".to_owned(),
        })
        .into_owned()
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix("0x").filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    digits.is_some() || word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Two words without the parts that both begin and end with, as far as these are words of their own:
/// `actions.boot.LoginAction` and `LoginAction` differ by `actions.boot.`.
fn trimmed(from: &str, to: &str) -> (String, String) {
    let is_joint = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let pairs = from.char_indices().rev().zip(to.char_indices().rev());
    let same = pairs.take_while(|((_, a), (_, b))| a == b).map(|((at, _), (to_at, _))| (at, to_at));
    // The longest end that is a word in both.
    let end = same
        .filter(|(at, to_at)| {
            is_joint(from[..*at].chars().next_back()) && is_joint(to[..*to_at].chars().next_back())
        })
        .last();
    match end {
        Some((at, to_at)) if at + to_at > 0 => (from[..at].to_owned(), to[..to_at].to_owned()),
        _ => (from.to_owned(), to.to_owned()),
    }
}
