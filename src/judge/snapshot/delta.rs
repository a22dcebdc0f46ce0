//! A text told by what it has differently from another one, its base.
//!
//! First the base is renamed: each name on the left becomes the one on the right, all of
//! them at once. Then hunks say what still differs, by the numbers of the base's lines.
//!
//! ```text
//! "juno" -> "x15"                  wherever it stands as a word in the base
//! "1.4" -> "1.5"                   a level, with all levels below it
//! @ 12 -2                          from line 12 on, two lines of the base are gone; instead:
//! +debug    | Extracted nfsroot    a line
//! = 27-31                          lines 27 to 31 of the base, renamed
//! ~ "0x82000000" -> "-"            a line that is gone, and what is else in it
//! ~ 44 "a" -> "b", "c" -> "d"      line 44, with two parts changed, from left to right
//! end
//! ```
//!
//! [`Delta::between`] looks for the shortest that it finds soon, not for the shortest there
//! is. What it makes, [`Delta::apply`] turns into the very text again, whatever the two
//! texts are; a delta that somebody wrote by hand is bounded in time and memory.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Most that a delta may make of its base.
const LARGEST: usize = 16 << 20;
/// Most names that are renamed.
const RENAMES: usize = 96;
/// Most candidates for that which are looked at.
const CANDIDATES: usize = 600;
/// Longest name that is renamed.
const NAME: usize = 400;
/// Longest line whose parts are compared.
const LINE: usize = 3000;
/// Most lines of two texts that are compared.
const LINES: usize = 20_000;
/// Most pairs of lines that names are looked for in.
const PAIRS: usize = 2000;
/// Most bytes that are renamed while names are looked for.
const WORK: usize = 100 << 20;

/// What a text has differently from its base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    renames: Vec<Rename>,
    hunks: Vec<Hunk>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rename {
    from: String,
    to: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    /// Line of the base, from 0.
    at: usize,
    /// How many of its lines are gone.
    gone: usize,
    added: Vec<Added>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Added {
    Line(String),
    /// Lines of the base: the first one, from 0, and how many.
    Same(usize, usize),
    /// A line of the base, from 0, with parts changed.
    Like(usize, Vec<Rename>),
}

impl Delta {
    /// What makes `text` of `base`.
    #[must_use]
    pub fn between(base: &str, text: &str) -> Self {
        if base.lines().count() + text.lines().count() > LINES {
            let gone = base.split('\n').count();
            let added = text.split('\n').map(|line| Added::Line(line.to_owned())).collect();
            return Self { renames: Vec::new(), hunks: vec![Hunk { at: 0, gone, added }] };
        }
        let plain = Self { renames: Vec::new(), hunks: hunks(base, text) };
        let renames = renames(base, text);
        if renames.is_empty() {
            return plain;
        }
        let mut best = Self { hunks: hunks(&renamed(base, &renames), text), renames };
        let mut size = best.size();
        // Those that seemed to be worth it, and are not.
        let mut at = best.renames.len();
        while at > 0 {
            at -= 1;
            let mut renames = best.renames.clone();
            let out = renames.remove(at);
            // What is left out has to save more than it costs; a longer one surely does not.
            if out.from.len() + out.to.len() > 60 {
                continue;
            }
            let other = Self { hunks: hunks(&renamed(base, &renames), text), renames };
            if other.size() <= size {
                size = other.size();
                best = other;
            }
        }
        if plain.size() <= size { plain } else { best }
    }

    /// Bytes that it takes when it is written.
    #[must_use]
    pub fn size(&self) -> usize {
        self.to_string().len()
    }

    /// The text that it makes of `base`.
    ///
    /// # Errors
    /// Why it can't be one of this base.
    pub fn apply(&self, base: &str) -> Result<String, String> {
        let base = renamed(base, &self.renames);
        if base.len() > LARGEST {
            return Err(format!("it makes more than {LARGEST} bytes"));
        }
        let lines: Vec<&str> = base.split('\n').collect();
        let mut made = Made { text: String::with_capacity(base.len()), empty: true };
        let mut next = 0;
        for hunk in &self.hunks {
            let end = hunk.at.checked_add(hunk.gone).filter(|end| *end <= lines.len() && hunk.at >= next);
            let end = end.ok_or_else(|| {
                format!("line {} is not where the base has one to change", hunk.at.saturating_add(1))
            })?;
            for line in &lines[next..hunk.at] {
                made.push(line)?;
            }
            for added in &hunk.added {
                match added {
                    Added::Line(line) => made.push(line)?,
                    Added::Same(from, count) => {
                        let end = from.checked_add(*count).filter(|end| *end <= lines.len());
                        let end =
                            end.ok_or_else(|| format!("the base has no {count} lines from {}", from + 1))?;
                        for line in &lines[*from..end] {
                            made.push(line)?;
                        }
                    }
                    Added::Like(from, parts) => {
                        let line = lines.get(*from).and_then(|line| changed(line, parts));
                        let line = line.ok_or_else(|| {
                            format!("line {} of the base has not the parts to change", from.saturating_add(1))
                        })?;
                        made.push(&line)?;
                    }
                }
            }
            next = end;
        }
        for line in &lines[next..] {
            made.push(line)?;
        }
        Ok(made.text)
    }

    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut delta = Self::default();
        let mut ended = false;
        // The line of the base that stands where the hunk's next line does.
        let mut made = 0_usize;
        for (number, line) in text.split('\n').enumerate() {
            let wrong = |why: &str| (number + 1, why.to_owned());
            if ended {
                return Err(wrong("stands behind `end`"));
            }
            let mut added = None;
            match (line.chars().next(), line.get(1..).unwrap_or_default()) {
                (Some('"'), _) if delta.hunks.is_empty() => match parts(line) {
                    Some(one)
                        if one.len() == 1 && !one[0].from.is_empty() && delta.renames.len() < RENAMES =>
                    {
                        delta.renames.extend(one);
                    }
                    _ => return Err(wrong("is no `\"name\" -> \"other name\"`")),
                },
                (Some('@'), rest) => {
                    let mut words = rest.split_whitespace();
                    let at = words.next().and_then(line_number);
                    let gone = words.next().map_or(Some(0), |word| number_after(word, '-'));
                    match (at, gone, words.next()) {
                        (Some(at), Some(gone), None) => {
                            made = at;
                            delta.hunks.push(Hunk { at, gone, added: Vec::new() });
                        }
                        _ => return Err(wrong("is no `@ LINE -COUNT`")),
                    }
                }
                (Some('+'), rest) => added = Some(Added::Line(rest.to_owned())),
                (Some('='), rest) => {
                    let (first, last) = rest.trim().split_once('-').unwrap_or((rest.trim(), rest.trim()));
                    match (line_number(first), line_number(last)) {
                        (Some(first), Some(last)) if first <= last => {
                            added = Some(Added::Same(first, last - first + 1));
                        }
                        _ => return Err(wrong("is no `= LINE-LINE`")),
                    }
                }
                (Some('~'), rest) => {
                    let rest = rest.trim_start();
                    let (digits, rest) = rest.split_at(rest.find('"').unwrap_or(rest.len()));
                    let from = if digits.is_empty() { Some(made) } else { line_number(digits.trim_end()) };
                    match (from, parts(rest)) {
                        (Some(from), Some(parts)) => added = Some(Added::Like(from, parts)),
                        _ => return Err(wrong("is no `~ LINE \"part\" -> \"other part\"`")),
                    }
                }
                _ if line == "end" => ended = true,
                _ => return Err(wrong("is no line of a difference from a base")),
            }
            match (added, delta.hunks.last_mut()) {
                (None, _) => {}
                (Some(added), Some(hunk)) => {
                    made = made.saturating_add(added.lines());
                    hunk.added.push(added);
                }
                (Some(_), None) => return Err(wrong("stands before the first `@`")),
            }
        }
        if ended { Ok(delta) } else { Err((text.split('\n').count(), "its `end` is missing".into())) }
    }
}

impl Added {
    fn lines(&self) -> usize {
        match self {
            Self::Same(_, count) => *count,
            _ => 1,
        }
    }
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rename in &self.renames {
            writeln!(f, "{rename}")?;
        }
        for hunk in &self.hunks {
            write!(f, "@ {}", hunk.at + 1)?;
            match hunk.gone {
                0 => writeln!(f)?,
                gone => writeln!(f, " -{gone}")?,
            }
            let mut made = hunk.at;
            for added in &hunk.added {
                match added {
                    Added::Line(line) => writeln!(f, "+{line}")?,
                    Added::Same(from, 1) => writeln!(f, "= {}", from + 1)?,
                    Added::Same(from, count) => writeln!(f, "= {}-{}", from + 1, from + count)?,
                    Added::Like(from, parts) => {
                        write!(f, "~ ")?;
                        if *from != made {
                            write!(f, "{} ", from + 1)?;
                        }
                        for (at, part) in parts.iter().enumerate() {
                            write!(f, "{}{part}", if at == 0 { "" } else { ", " })?;
                        }
                        writeln!(f)?;
                    }
                }
                made = made.saturating_add(added.lines());
            }
        }
        write!(f, "end")
    }
}

impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::to_string(text).map_err(|_| fmt::Error);
        write!(f, "{} -> {}", quoted(&self.from)?, quoted(&self.to)?)
    }
}

/// `"a" -> "b", "c" -> "d"`
fn parts(mut text: &str) -> Option<Vec<Rename>> {
    fn quoted(text: &str) -> Option<(String, &str)> {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let value = stream.next()?.ok()?;
        Some((value, text.get(stream.byte_offset()..)?))
    }
    let mut parts = Vec::new();
    loop {
        let (from, rest) = quoted(text)?;
        let (to, rest) = quoted(rest.strip_prefix(" -> ")?)?;
        parts.push(Rename { from, to });
        if rest.is_empty() {
            return Some(parts);
        }
        text = rest.strip_prefix(", ")?;
    }
}

/// A line's number from 1 as one from 0.
fn line_number(word: &str) -> Option<usize> {
    word.parse::<usize>().ok()?.checked_sub(1)
}

fn number_after(word: &str, sign: char) -> Option<usize> {
    word.strip_prefix(sign)?.parse().ok()
}

/// Lines that are put together.
struct Made {
    text: String,
    empty: bool,
}

impl Made {
    fn push(&mut self, line: &str) -> Result<(), String> {
        if !self.empty {
            self.text.push('\n');
        }
        self.empty = false;
        if self.text.len() + line.len() > LARGEST {
            return Err(format!("it makes more than {LARGEST} bytes"));
        }
        self.text.push_str(line);
        Ok(())
    }
}

/// A line with its parts changed, from left to right.
fn changed(line: &str, parts: &[Rename]) -> Option<String> {
    let mut made = String::with_capacity(line.len());
    let mut rest = line;
    for part in parts {
        let at = rest.find(&part.from)?;
        made.push_str(&rest[..at]);
        made.push_str(&part.to);
        rest = &rest[at + part.from.len()..];
        if made.len() > LARGEST {
            return None;
        }
    }
    made.push_str(rest);
    Some(made)
}

/// `text` with all names renamed at once: at each place the longest one that stands there
/// as a word.
fn renamed(text: &str, renames: &[Rename]) -> String {
    if renames.is_empty() {
        return text.to_owned();
    }
    let mut by_first: Vec<Vec<&Rename>> = vec![Vec::new(); 256];
    for rename in renames {
        if let Some(first) = rename.from.as_bytes().first() {
            by_first[usize::from(*first)].push(rename);
        }
    }
    for bucket in &mut by_first {
        bucket.sort_by(|a, b| b.from.len().cmp(&a.from.len()).then_with(|| a.from.cmp(&b.from)));
        bucket.dedup_by(|a, b| a.from == b.from);
    }
    let bytes = text.as_bytes();
    let mut made = String::with_capacity(text.len());
    let (mut done, mut at) = (0, 0);
    while at < bytes.len() {
        let here = by_first[usize::from(bytes[at])]
            .iter()
            .find(|rename| bytes[at..].starts_with(rename.from.as_bytes()) && is_word(bytes, at, rename));
        match here {
            Some(rename) => {
                made.push_str(&text[done..at]);
                made.push_str(&rename.to);
                at += rename.from.len();
                done = at;
                if made.len() > LARGEST {
                    return made;
                }
            }
            None => at += 1,
        }
    }
    made.push_str(&text[done..]);
    made
}

/// Whether a name that stands at `at` is no part of a longer word, nor the middle of a level.
fn is_word(text: &[u8], at: usize, rename: &Rename) -> bool {
    let name = rename.from.as_bytes();
    let alnum = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let before = |back: usize| at.checked_sub(back).and_then(|at| text.get(at));
    let begins = !alnum(name.first()) || !alnum(before(1));
    let level = name.first().is_some_and(u8::is_ascii_digit)
        && before(1) == Some(&b'.')
        && before(2).is_some_and(u8::is_ascii_digit);
    begins && !level && (!alnum(name.last()) || !alnum(text.get(at + name.len())))
}

/// Words, levels such as `1.4.2`, and single other characters.
fn tokens(line: &str) -> Vec<&str> {
    let bytes = line.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        if bytes[at].is_ascii_alphanumeric() {
            let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
                at += 1;
            }
            if bytes[begin..at].iter().all(u8::is_ascii_digit) {
                while bytes.get(at) == Some(&b'.') && at + 1 < bytes.len() && digits(at + 1) > 0 {
                    at += 1 + digits(at + 1);
                }
            }
        } else {
            at += line[at..].chars().next().map_or(1, char::len_utf8);
        }
        tokens.push(&line[begin..at]);
    }
    tokens
}

/// What a line says when its numbers are left out: by it lines of two texts find each other.
fn key(line: &str) -> String {
    let hash = |token: &str| token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut key = String::with_capacity(line.len());
    for token in tokens(line) {
        if token.as_bytes().first().is_some_and(u8::is_ascii_digit) || hash(token) {
            key.push('#');
        } else {
            key.push_str(token);
        }
    }
    key
}

/// Where two sequences are equal: ranges of the same length.
fn equal<T: std::hash::Hash + Eq + Ord>(old: &[T], new: &[T]) -> Vec<(Range<usize>, Range<usize>)> {
    let ops = capture_diff_slices(Algorithm::Myers, old, new);
    let equal = ops.iter().filter(|op| matches!(op, DiffOp::Equal { .. }));
    equal.map(|op| (op.old_range(), op.new_range())).collect()
}

/// Where they differ: what lies between.
fn differing<T: std::hash::Hash + Eq + Ord>(old: &[T], new: &[T]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut gaps = Vec::new();
    let (mut a, mut b) = (0, 0);
    let end = (old.len()..old.len(), new.len()..new.len());
    for (same, also) in equal(old, new).into_iter().chain([end]) {
        if a < same.start || b < also.start {
            gaps.push((a..same.start, b..also.start));
        }
        (a, b) = (same.end, also.end);
    }
    gaps
}

/// Lines of the two texts that mean the same.
fn pairs<'t>(base: &[&'t str], text: &[&'t str]) -> Vec<(&'t str, &'t str)> {
    let keys = |lines: &[&str]| lines.iter().map(|line| key(line)).collect::<Vec<_>>();
    let (old, new) = (keys(base), keys(text));
    let mut pairs = Vec::new();
    for (old, new) in equal(&old, &new) {
        pairs.extend(base[old].iter().copied().zip(text[new].iter().copied()));
    }
    for (old, new) in differing(&old, &new) {
        let (old, new) = (&base[old], &text[new]);
        if old.len() == new.len() {
            pairs.extend(old.iter().copied().zip(new.iter().copied()));
        } else if old.len() * new.len() < 10_000 {
            for line in new {
                let like = |other: &&&str| {
                    line.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
                };
                let best = old.iter().max_by_key(like);
                pairs.extend(best.filter(|best| like(best) >= 14).map(|best| (*best, *line)));
            }
        }
    }
    pairs.retain(|(old, new)| old.len() <= LINE && new.len() <= LINE);
    pairs.truncate(PAIRS);
    pairs
}

/// How far `line` is from `wanted`, in bytes or so.
fn distance(line: &str, wanted: &str) -> usize {
    if line == wanted {
        return 0;
    }
    let mut has: HashMap<&str, usize> = HashMap::new();
    for token in tokens(line) {
        *has.entry(token).or_default() += 1;
    }
    let mut far = 10;
    for token in tokens(wanted) {
        match has.get_mut(token) {
            Some(left) if *left > 0 => *left -= 1,
            _ => far += token.len() + 3,
        }
    }
    far.min(wanted.len() + 10)
}

/// The names that are others in `text`: those that bring lines of the base closer to it.
fn renames(base: &str, text: &str) -> Vec<Rename> {
    let (base, text): (Vec<&str>, Vec<&str>) = (base.split('\n').collect(), text.split('\n').collect());
    let pairs = pairs(&base, &text);
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (old, new) in &pairs {
        for candidate in candidates(old, new) {
            *found.entry(candidate).or_default() += 1;
        }
    }
    let mut found: Vec<((String, String), usize)> = found.into_iter().collect();
    let worth =
        |((from, to), count): &((String, String), usize)| (count * (from.len().min(40) + 20), to.len());
    found.sort_by_key(|one| std::cmp::Reverse(worth(one)));
    found.truncate(CANDIDATES);
    let mut chosen: Vec<Rename> = Vec::new();
    let mut state: Vec<(String, usize)> =
        pairs.iter().map(|(old, new)| ((*old).to_owned(), distance(old, new))).collect();
    let mut work = 0;
    for ((from, to), _) in found {
        if chosen.len() >= RENAMES || work > WORK {
            break;
        }
        if chosen.iter().any(|rename| rename.from == from) {
            continue;
        }
        let cost = from.len() + to.len() + 10;
        let mut with = chosen.clone();
        with.push(Rename { from, to });
        let from = with[with.len() - 1].from.as_str();
        let mut gain = 0_isize;
        let mut changed = Vec::new();
        for (at, (old, new)) in pairs.iter().enumerate() {
            if !old.contains(from) {
                continue;
            }
            work += old.len();
            let line = renamed(old, &with);
            if line != state[at].0 {
                let far = distance(&line, new);
                gain += state[at].1.cast_signed() - far.cast_signed();
                changed.push((at, line, far));
            }
        }
        if gain > cost.cast_signed() {
            for (at, line, far) in changed {
                state[at] = (line, far);
            }
            chosen = with;
        }
    }
    chosen.sort_by(|a, b| a.from.cmp(&b.from));
    chosen
}

/// What could be renamed, as two lines that mean the same show it.
fn candidates(old: &str, new: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if old == new {
        return found;
    }
    let (old, new) = (tokens(old), tokens(new));
    let is_word = |token: &str| token.as_bytes()[0].is_ascii_alphanumeric();
    let joins = |token: &str| is_word(token) || matches!(token, "_" | "." | "/" | "-");
    let mut add = |from: &[&str], to: &[&str]| {
        let (from, to) = (from.concat(), to.concat());
        if from != to && !from.is_empty() && from.len() <= NAME && to.len() <= NAME {
            found.push((from, to));
        }
    };
    for (mut a, mut b) in differing(&old, &new) {
        // A level's first parts: what is below it moves with it.
        if a.len() == 1 && b.len() == 1 {
            let (one, other) = (old[a.start], new[b.start]);
            let (mut one, mut other): (Vec<&str>, Vec<&str>) =
                (one.split('.').collect(), other.split('.').collect());
            while one.len() > 2 && other.len() > 2 && one.last() == other.last() {
                one.pop();
                other.pop();
                add(&[&one.join(".")], &[&other.join(".")]);
            }
        }
        // There must be a word to find it by.
        while a.start > 0 && b.start > 0 && !old[a.clone()].iter().any(|token| is_word(token)) {
            a.start -= 1;
            b.start -= 1;
        }
        add(&old[a.clone()], &new[b.clone()]);
        let narrow = (a.clone(), b.clone());
        while a.start > 0 && b.start > 0 && joins(old[a.start - 1]) && old[a.start - 1] == new[b.start - 1] {
            a.start -= 1;
            b.start -= 1;
        }
        while a.end < old.len() && b.end < new.len() && joins(old[a.end]) && old[a.end] == new[b.end] {
            a.end += 1;
            b.end += 1;
        }
        if (&a, &b) != (&narrow.0, &narrow.1) {
            add(&old[a], &new[b]);
        }
    }
    found
}

/// What still differs.
fn hunks(base: &str, text: &str) -> Vec<Hunk> {
    let (base, text): (Vec<&str>, Vec<&str>) = (base.split('\n').collect(), text.split('\n').collect());
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut alike: Option<HashMap<String, Vec<usize>>> = None;
    for (at, line) in base.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    let mut hunks: Vec<Hunk> = Vec::new();
    for (old, new) in differing(&base, &text) {
        let mut hunk = Hunk { at: old.start, gone: old.len(), added: Vec::new() };
        let mut next = new.start;
        let mut made = old.start;
        while next < new.end {
            let most = new.end - next;
            let run =
                |at: &usize| (0..most).take_while(|by| base.get(at + by) == Some(&text[next + by])).count();
            let longest = places.get(text[next]).and_then(|places| {
                places
                    .iter()
                    .take(50)
                    .map(|at| (run(at), *at))
                    .max_by_key(|(run, at)| (*run, std::cmp::Reverse(*at)))
            });
            if let Some((run, at)) = longest
                && text[next..next + run].iter().map(|line| line.len() + 2).sum::<usize>() > 12
            {
                hunk.added.push(Added::Same(at, run));
                next += run;
                made += run;
                continue;
            }
            let line = text[next];
            let alike = alike.get_or_insert_with(|| {
                let mut alike: HashMap<String, Vec<usize>> = HashMap::new();
                for (at, line) in base.iter().enumerate() {
                    alike.entry(begin(line).to_owned()).or_default().push(at);
                }
                alike
            });
            // The line in the same place first, and then those that begin the same.
            let here = (made < old.end).then_some(made);
            let others = alike.get(begin(line)).map_or(&[][..], Vec::as_slice);
            // The nearest ones.
            let near = others.partition_point(|at| *at < made);
            let others = &others[near.saturating_sub(4)..(near + 4).min(others.len())];
            let best = here.iter().chain(others).filter_map(|at| {
                let parts = likeness(base[*at], line)?;
                let added = Added::Like(*at, parts);
                let size = added.written(made);
                Some((size, added))
            });
            match best.min_by_key(|(size, _)| *size) {
                Some((size, added)) if size < line.len() + 2 => hunk.added.push(added),
                _ => hunk.added.push(Added::Line(line.to_owned())),
            }
            next += 1;
            made += 1;
        }
        hunks.push(hunk);
    }
    hunks
}

impl Added {
    /// Bytes that it takes in a hunk that has made the lines before `made`.
    fn written(&self, made: usize) -> usize {
        match self {
            Self::Line(line) => line.len() + 2,
            Self::Same(..) => 10,
            Self::Like(from, parts) => {
                let number = if *from == made { 0 } else { 4 };
                3 + number + parts.iter().map(|part| part.to_string().len() + 2).sum::<usize>()
            }
        }
    }
}

/// What tells a line's kind: its first bytes.
fn begin(line: &str) -> &str {
    let mut end = line.len().min(24);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// The parts that make `wanted` of `line`, if there are some that do.
fn likeness(line: &str, wanted: &str) -> Option<Vec<Rename>> {
    if line.len() > LINE || wanted.len() > LINE {
        return None;
    }
    let (old, new) = (tokens(line), tokens(wanted));
    let offset = |at: usize| old[..at].iter().map(|token| token.len()).sum::<usize>();
    let mut parts = Vec::new();
    // Bytes of the line that are behind.
    let mut done = 0;
    let mut gaps: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for (a, b) in differing(&old, &new) {
        match gaps.last_mut() {
            // A new part costs more than a few bytes twice.
            Some((last, also)) if old[last.end..a.start].concat().len() <= 4 => {
                last.end = a.end;
                also.end = b.end;
            }
            _ => gaps.push((a, b)),
        }
    }
    for (mut a, mut b) in gaps {
        loop {
            let from = old[a.clone()].concat();
            let begin = offset(a.start);
            if begin < done {
                return None;
            }
            if !from.is_empty() && line[done..].find(&from) == Some(begin - done) {
                done = begin + from.len();
                parts.push(Rename { from, to: new[b.clone()].concat() });
                break;
            }
            if a.start == 0 || b.start == 0 || old[a.start - 1] != new[b.start - 1] {
                // At its beginning there is nothing to the left.
                if a.start == 0 && a.end < old.len() && old.get(a.end) == new.get(b.end) {
                    a.end += 1;
                    b.end += 1;
                    continue;
                }
                return None;
            }
            a.start -= 1;
            b.start -= 1;
        }
    }
    // The search is a guess; this is what counts.
    (!parts.is_empty() && changed(line, &parts).as_deref() == Some(wanted)).then_some(parts)
}

/// About how much a delta from `base` to `text` would take, found out much sooner.
#[must_use]
pub fn estimate(base: &Outline, text: &Outline) -> usize {
    let mut size = 0;
    for (line, key, length) in &text.lines {
        if !base.has.contains_key(line) {
            size += if base.keys.contains_key(key) { 12 } else { length + 2 };
        }
    }
    size + base.lines.len().abs_diff(text.lines.len()) / 4
}

/// A text as [`estimate`] sees it.
#[derive(Debug, Clone)]
pub struct Outline {
    lines: Vec<(u64, u64, usize)>,
    has: HashMap<u64, ()>,
    keys: HashMap<u64, ()>,
}

impl Outline {
    /// Of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let hash = |text: &str| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        };
        let lines: Vec<_> = text.split('\n').map(|line| (hash(line), hash(&key(line)), line.len())).collect();
        Self {
            has: lines.iter().map(|line| (line.0, ())).collect(),
            keys: lines.iter().map(|line| (line.1, ())).collect(),
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: &str =
        "start: 1.4 deploy of juno-01\nstart: 1.4.2 overlay\nlevel 11.4 and 1.44\njuno.dtb\nend";

    fn made(delta: &str, base: &str) -> Result<String, String> {
        Delta::parse(delta).map_err(|(line, why)| format!("{line}: {why}"))?.apply(base)
    }

    #[test]
    fn a_name_is_renamed_where_it_stands_as_a_word() {
        let text = made("\"1.4\" -> \"1.5\"\n\"juno\" -> \"x15\"\nend", BASE).unwrap();
        assert_eq!(
            text,
            "start: 1.5 deploy of x15-01\nstart: 1.5.2 overlay\nlevel 11.4 and 1.44\nx15.dtb\nend"
        );
    }

    #[test]
    fn names_are_renamed_at_once_and_the_longest_first() {
        assert_eq!(
            made("\"1.4\" -> \"1.5\"\n\"1.5\" -> \"1.6\"\nend", "1.4 1.5 1.4.1").unwrap(),
            "1.5 1.6 1.5.1"
        );
        assert_eq!(made("\"a\" -> \"b\"\n\"a-b\" -> \"c\"\nend", "a-b a").unwrap(), "c b");
    }

    #[test]
    fn hunks_add_repeat_and_change_lines() {
        let delta =
            "@ 2 -2\n+new\n= 4-5\n~ \"juno\" -> \"x15\", \"dtb\" -> \"\"\n~ 1 \"deploy\" -> \"boot\"\nend";
        // The fourth line in the hunk stands for the fifth of the base: "end".
        assert!(made(delta, BASE).unwrap_err().contains("line 5"));
        let delta = delta.replace("~ \"juno\"", "~ 4 \"juno\"");
        assert_eq!(
            made(&delta, BASE).unwrap(),
            "start: 1.4 deploy of juno-01\nnew\njuno.dtb\nend\nx15.\nstart: 1.4 boot of juno-01\njuno.dtb\nend"
        );
    }

    #[test]
    fn what_is_no_difference_says_where() {
        for (delta, why) in [
            ("", "1: is no line"),
            ("@ 1", "1: its `end` is missing"),
            ("end\n+x", "2: stands behind"),
            ("+x\nend", "1: stands before"),
            ("@ 0\nend", "1: is no `@"),
            ("@ 1 2\nend", "1: is no `@"),
            ("@ 1\n= 3-2\nend", "2: is no `="),
            ("\"a\" -> \"b\", \"c\" -> \"d\"\nend", "1: is no `\"name"),
            ("\"\" -> \"b\"\nend", "1: is no `\"name"),
            ("@ 1\n\"a\" -> \"b\"\nend", "2: is no line"),
            ("@ 9\nend", "line 9"),
            ("@ 1 -18446744073709551615\nend", "line 1"),
            ("@ 4\n@ 2 -1\nend", "line 2"),
            ("@ 1\n= 5-6\nend", "no 2 lines"),
            ("@ 1\n~ 1 \"nowhere\" -> \"x\"\nend", "line 1 of the base"),
        ] {
            let error = made(delta, BASE).unwrap_err();
            assert!(error.contains(why), "{delta}: {error}");
        }
    }

    #[test]
    fn what_would_never_end_is_stopped() {
        let copies = format!("@ 1\n{}end", "= 1-1000\n".repeat(1000));
        let base = "a line of some length\n".repeat(1000);
        assert!(made(&copies, &base).unwrap_err().contains("more than"));
        let rename = format!("\"a\" -> \"{}\"\nend", "b".repeat(1 << 20));
        assert!(made(&rename, &"a ".repeat(1000)).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_board_of_the_same_family_takes_a_few_names() {
        let log = |board: &str, level: &str, kernel: &str| {
            (0..30)
                .map(|at| format!("debug    | start: {level}.{at} step of {board}-01 with {kernel}"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let (base, text) = (log("juno", "1.4", "Image"), log("x15", "1.5", "zImage"));
        let delta = Delta::between(&base, &text);
        assert_eq!(delta.to_string().lines().count(), 4, "{delta}");
        assert_eq!(delta.apply(&base).unwrap(), text);
    }

    #[test]
    fn equal_texts_differ_in_nothing() {
        assert_eq!(Delta::between(BASE, BASE).to_string(), "end");
    }

    /// Lines like those of a log, so that there is something to rename and to move.
    fn texts() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("juno"),
            Just("x15"),
            Just("1.4.2"),
            Just("1.5"),
            Just("kernel/Image"),
            Just("'=> '"),
            Just("ä→"),
            Just("\"q\" -> \"r\""),
            Just("\\n"),
            Just("")
        ];
        let line = prop::collection::vec(word, 0..6).prop_map(|words| words.join(" "));
        prop::collection::vec(line, 0..25).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_between_two_texts_makes_one_of_the_other(base in texts(), text in texts()) {
            let delta = Delta::between(&base, &text);
            prop_assert_eq!(delta.apply(&base).unwrap(), text);
            prop_assert_eq!(Delta::parse(&delta.to_string()).unwrap(), delta);
        }

        #[test]
        fn so_do_any_two_texts_at_all(base in "(\\PC|[\r\n\t]){0,60}", text in "(\\PC|[\r\n\t]){0,60}") {
            let delta = Delta::between(&base, &text);
            prop_assert_eq!(delta.apply(&base).unwrap(), text);
        }

        #[test]
        fn any_text_is_a_difference_or_an_error(delta in "([@+=~\"a1 -]{0,9}\n){0,6}end|\\PC{0,40}", base in texts()) {
            if let Ok(delta) = Delta::parse(&delta) {
                let _ = delta.apply(&base);
                prop_assert_eq!(Delta::parse(&delta.to_string()).unwrap(), delta);
            }
        }
    }
}
