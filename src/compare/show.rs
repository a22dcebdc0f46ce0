//! A comparison for people: on the terminal, and as Markdown for a release note.

use std::fmt::Write as _;

use console::{Term, measure_text_width, truncate_str};

use super::causes::general;
use super::{Comparison, Concerned, Example, Group, Kind, Piece, Told};
use crate::report::{Parts, excerpt};
use crate::text::printable;

/// Most groups that are shown on a terminal; the page has all.
const GROUPS: usize = 60;
/// Most pieces of a group that are shown.
const PIECES: usize = 4;
/// Most lines of an example, of each side.
const LINES: usize = 3;

/// How wide the terminal is.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Whether only the heads of groups are wanted.
    pub quiet: bool,
}

impl Look {
    /// What suits stdout.
    #[must_use]
    pub fn of_stdout(quiet: bool) -> Self {
        let size = Term::stdout().size_checked();
        Self { width: size.map_or(110, |(_, columns)| usize::from(columns)).max(40), quiet }
    }
}

impl Comparison {
    /// It for a terminal.
    #[must_use]
    pub fn text(&self, look: Look) -> String {
        let mut text = String::new();
        let mut kind = None;
        for group in self.groups.iter().take(GROUPS) {
            if kind != Some(group.kind) {
                kind = Some(group.kind);
                let count = self.totals.get(&group.kind).copied().unwrap_or_default();
                let _ = writeln!(text, "{}: {}", group.kind.name(), causes(count));
            }
            group.tell(&mut text, look);
        }
        if self.groups.len() > GROUPS {
            let _ = writeln!(text, "… and {} more; see compare.html", causes(self.groups.len() - GROUPS));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        for (name, side) in [("A", &self.a), ("B", &self.b)] {
            let _ = writeln!(text, "{name}  {}", side.in_a_line());
        }
        let _ = writeln!(text, "{}", self.summary());
        text
    }

    /// What it comes to, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let totals: Vec<String> = Kind::ALL
            .into_iter()
            .filter_map(|kind| self.totals.get(&kind).filter(|count| **count > 0).map(|count| (kind, count)))
            .map(|(kind, count)| format!("{count} {}", kind.name()))
            .collect();
        let found = if totals.is_empty() { "nothing differs".into() } else { totals.join(", ") };
        let silent = self.scenarios.iter().filter(|one| !one.compared && one.a == one.b).count();
        let silent = match silent {
            0 => String::new(),
            some => format!(", {some} left out: no job of theirs was judged on either side"),
        };
        format!("{} compared{silent}: {found}", scenarios(self.compared()))
    }

    /// It as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {} against {}\n\n", code(&self.a.name), code(&self.b.name));
        for (name, side) in [("A", &self.a), ("B", &self.b)] {
            let _ = writeln!(text, "- {name}: {}", escaped(&side.in_a_line()));
        }
        let _ = writeln!(text, "\n{}.", self.summary());
        let mut kind = None;
        for group in &self.groups {
            if kind != Some(group.kind) {
                kind = Some(group.kind);
                let _ = writeln!(text, "\n## {}", group.kind.name());
            }
            let pieces: Vec<String> = group.shown(PIECES).iter().map(|piece| code(piece)).collect();
            let _ = writeln!(
                text,
                "\n- {} in {}: {}",
                pieces.join(", "),
                scenarios(group.scenarios.len()),
                escaped(&names(&group.scenarios, usize::MAX))
            );
            if let Some(example) = &group.example {
                let _ = writeln!(text, "\n  ```diff");
                for line in example.lines(LINES) {
                    // A fence in a line would end this one.
                    let _ = writeln!(text, "  {}", line.replace("```", "` ` `"));
                }
                let _ = writeln!(text, "  ```");
            }
        }
        text
    }
}

impl Group {
    /// Its pieces, each in a line; of those that differ by values only the first. What is left out is
    /// counted.
    #[must_use]
    pub fn shown(&self, most: usize) -> Vec<String> {
        let mut kinds: Vec<(Piece, &Piece, usize)> = Vec::new();
        for piece in &self.pieces {
            let general = general(piece);
            match kinds.iter_mut().find(|(known, ..)| *known == general) {
                Some((_, _, count)) => *count += 1,
                None => kinds.push((general, piece, 1)),
            }
        }
        let more = kinds.len().saturating_sub(most);
        let line = |(_, piece, count): (_, &Piece, usize)| match count {
            1 => piece.in_a_line(),
            _ => format!("{} (and {} like it)", piece.in_a_line(), count - 1),
        };
        let mut shown: Vec<String> = kinds.into_iter().take(most).map(line).collect();
        if more > 0 {
            shown.push(format!("and {more} more"));
        }
        shown
    }

    fn tell(&self, text: &mut String, look: Look) {
        let cut = |line: &str| in_the_middle(line, look.width);
        let mut head = format!("{:>5}  ", self.scenarios.len());
        let indent = " ".repeat(measure_text_width(&head));
        for piece in self.shown(PIECES) {
            let _ = writeln!(text, "{}", cut(&format!("{head}{piece}")));
            head.clone_from(&indent);
        }
        if look.quiet {
            return;
        }
        if let Some(example) = &self.example {
            for line in example.fit(LINES, look.width - indent.len() - 4) {
                let _ = writeln!(text, "{indent}    {line}");
            }
        }
        let names = format!("{indent}in {}", names(&self.scenarios, 40));
        let _ = writeln!(text, "{}", truncate_str(&names, look.width, "…"));
    }
}

impl Example {
    /// Its lines as a difference has them, `-` and `+` in front; at most so many of each side.
    #[must_use]
    pub fn lines(&self, most: usize) -> Vec<String> {
        let side = |sign: char, lines: &[(usize, String)]| {
            let shown = lines.iter().take(most);
            shown.map(|(_, line)| format!("{sign}{}", printable(line))).collect::<Vec<_>>()
        };
        [side('-', &self.a), side('+', &self.b)].concat()
    }

    /// The same, each in so many columns: of one line that became another the place where they part.
    fn fit(&self, most: usize, columns: usize) -> Vec<String> {
        if let ([(_, a)], [(_, b)]) = (self.a.as_slice(), self.b.as_slice()) {
            let [a, b] = excerpt(Parts::of(&printable(a), &printable(b)), columns - 1);
            return vec![format!("-{}", a.text()), format!("+{}", b.text())];
        }
        self.lines(most).iter().map(|line| in_the_middle(line, columns)).collect()
    }
}

impl Told {
    /// It in a line: its name, the version, what it is made of.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let lava = self.lava.as_deref().unwrap_or("no LAVA answered");
        let parts: Vec<String> = self.about.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        printable(&format!("{}: LAVA {lava}{parts}, run {}", self.name, self.run))
    }
}

/// `line` in so many columns; of a longer one the middle is left out.
fn in_the_middle(line: &str, columns: usize) -> String {
    let width = measure_text_width(line);
    if width <= columns {
        return line.to_owned();
    }
    let head = truncate_str(line, columns / 2, "…");
    let left = columns - measure_text_width(&head);
    let tail: Vec<char> = line.chars().rev().collect();
    let mut taken = String::new();
    for c in tail {
        if measure_text_width(&taken) + measure_text_width(c.encode_utf8(&mut [0; 4])) > left {
            break;
        }
        taken.push(c);
    }
    let tail: String = taken.chars().rev().collect();
    format!("{head}{tail}")
}

fn names(scenarios: &[Concerned], most: usize) -> String {
    let mut names: Vec<String> =
        scenarios.iter().take(most).map(|scenario| printable(&scenario.name)).collect();
    if scenarios.len() > most {
        names.push(format!("and {} more", scenarios.len() - most));
    }
    names.join(" ")
}

fn scenarios(count: usize) -> String {
    format!("{count} scenario{}", if count == 1 { "" } else { "s" })
}

fn causes(count: usize) -> String {
    format!("{count} cause{}", if count == 1 { "" } else { "s" })
}

/// `text` as code in Markdown, whatever is in it.
fn code(text: &str) -> String {
    let text = printable(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let blank = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

/// `text` with what Markdown or the HTML in it would take for markup escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*_[]<>&#|".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
