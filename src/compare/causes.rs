//! What differs in all scenarios, put together by cause.
//!
//! Three rules make a few causes of many pieces, and none of them drops one:
//!
//! - What is equal is one cause, and so is what differs only by values where each scenario has its own
//!   (`metadata: […]`), or where one has many (`Sending line: …`). One that has two or three has
//!   as many causes.
//! - What stands in the very same places is one cause: a block of lines.
//! - What only one scenario has is told together, for each kind: a job that ends otherwise logs
//!   hundreds of lines otherwise, and its first ones say why.

use std::collections::{BTreeMap, BTreeSet};

use super::items::{Item, Piece, Texts, pattern};
use super::{Concerned, Example, Group, Kind};
use crate::judge::snapshot;

/// Where a piece stands: the scenario, the block, its lines.
#[derive(Debug, Clone, Copy)]
struct Place {
    scenario: usize,
    block: usize,
    at: [Option<usize>; 2],
}

/// A cause on its way: its pieces, in the order in which they were found, and their places.
#[derive(Debug, Clone)]
struct Cause {
    kind: Kind,
    pieces: Vec<Piece>,
    places: Vec<Place>,
}

/// Collects what differs, and puts together what has one cause.
#[derive(Default)]
pub struct Causes {
    scenarios: Vec<(String, String)>,
    texts: BTreeMap<usize, [Texts; 2]>,
    found: Vec<(Kind, Piece, Place)>,
    blocks: usize,
}

impl Causes {
    /// Takes a scenario in; its place in the list is handed back.
    pub fn add_scenario(&mut self, scenario: &(String, String)) -> usize {
        self.scenarios.push(scenario.clone());
        self.scenarios.len() - 1
    }

    /// Takes in what differs between the texts of a scenario.
    pub fn add(&mut self, scenario: usize, items: Vec<Item>, texts: [Texts; 2]) {
        let first = self.blocks;
        for Item { kind, piece, block, at } in items {
            let block = first + block;
            self.blocks = self.blocks.max(block + 1);
            self.found.push((kind, piece, Place { scenario, block, at }));
        }
        self.texts.insert(scenario, texts);
    }

    /// Takes in what is of no line: of some scenarios as a whole.
    pub fn add_whole(&mut self, kind: Kind, piece: &Piece, scenarios: &[usize]) {
        for scenario in scenarios {
            self.blocks += 1;
            let place = Place { scenario: *scenario, block: self.blocks, at: [None, None] };
            self.found.push((kind, piece.clone(), place));
        }
    }

    /// The causes: by kind, then those of most scenarios first.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let causes = one_scenarios_own(in_the_same_places(alike(equal(&self.explained()))));
        let mut groups: Vec<Group> = causes.iter().map(|cause| self.group(cause)).collect();
        groups.sort_by(|a, b| {
            (a.kind.cmp(&b.kind))
                .then(b.scenarios.len().cmp(&a.scenarios.len()))
                .then(b.places.cmp(&a.places))
                .then_with(|| a.pieces.cmp(&b.pieces))
        });
        groups
    }

    /// What was found, but that of a line that changed in several words those are told of other lines
    /// that change in no others.
    fn explained(&self) -> Vec<(Kind, Piece, Place)> {
        let mut alone: BTreeSet<(Kind, &(String, String))> = BTreeSet::new();
        for (kind, piece, _) in &self.found {
            if let Piece::Became { words, .. } = piece
                && let [pair] = words.as_slice()
            {
                alone.insert((*kind, pair));
            }
        }
        let mut explained = Vec::new();
        for (kind, piece, place) in &self.found {
            match piece {
                Piece::Became { words, line } => {
                    let (known, rest): (Vec<_>, Vec<_>) =
                        words.iter().cloned().partition(|pair| alone.contains(&(*kind, pair)));
                    let known = known.into_iter().map(|pair| vec![pair]);
                    for words in known.chain((!rest.is_empty()).then_some(rest)) {
                        // Words that say enough are one cause in whichever line they stand.
                        let line = line.clone().filter(|_| say_little(&words));
                        explained.push((*kind, Piece::Became { words, line }, *place));
                    }
                }
                _ => explained.push((*kind, piece.clone(), *place)),
            }
        }
        explained
    }

    fn group(&self, cause: &Cause) -> Group {
        let mut scenarios: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for place in &cause.places {
            scenarios.entry(place.scenario).or_default().insert(place.block);
        }
        let blocks: BTreeSet<usize> = cause.places.iter().map(|place| place.block).collect();
        Group {
            kind: cause.kind,
            pieces: cause.pieces.clone(),
            places: blocks.len(),
            scenarios: scenarios
                .into_iter()
                .map(|(scenario, blocks)| {
                    let (suite, name) = self.scenarios[scenario].clone();
                    Concerned { suite, name, places: blocks.len() }
                })
                .collect(),
            example: self.example(cause),
        }
    }

    /// The block with the shortest lines, of some; of what one scenario has all.
    fn example(&self, cause: &Cause) -> Option<Example> {
        let text = match cause.kind {
            Kind::Results => 0,
            Kind::Console | Kind::Files | Kind::Ledger => 1,
            Kind::Log => 2,
            Kind::Scenario | Kind::Time => return None,
        };
        let first = cause.places.first()?;
        let is_own = cause.places.iter().all(|place| place.scenario == first.scenario);
        let lines = |of: &Place| {
            let texts = self.texts.get(&of.scenario)?;
            Some([0, 1].map(|side| {
                let shown = cause.places.iter().filter(|place| is_own || place.block == of.block);
                let at: BTreeSet<usize> = shown.filter_map(|place| place.at[side]).collect();
                let lines: Vec<&str> = texts[side][text].lines().collect();
                let line =
                    |at: usize| Some((at, (*lines.get(at.checked_sub(snapshot::HEADER + 1)?)?).to_owned()));
                at.into_iter().filter_map(line).collect::<Vec<(usize, String)>>()
            }))
        };
        let size = |sides: &[Vec<(usize, String)>; 2]| -> usize {
            sides.iter().flatten().map(|(_, line)| line.len()).sum()
        };
        let some = if is_own { 1 } else { EXAMPLES };
        let shown = cause.places.iter().take(some).filter_map(|place| Some((place, lines(place)?)));
        // Of equal ones the first.
        let (first, [a, b]) = shown.min_by_key(|(_, sides)| size(sides))?;
        let scenario = self.scenarios[first.scenario].1.clone();
        let text = snapshot::Kind::ALL[text].name();
        (!a.is_empty() || !b.is_empty()).then_some(Example { scenario, text, a, b })
    }
}

/// What is equal is one cause.
fn equal(found: &[(Kind, Piece, Place)]) -> Vec<Cause> {
    let mut places: BTreeMap<(Kind, &Piece), usize> = BTreeMap::new();
    let mut causes: Vec<Cause> = Vec::new();
    for (kind, piece, place) in found {
        let at = *places.entry((*kind, piece)).or_insert(causes.len());
        if at == causes.len() {
            causes.push(Cause { kind: *kind, pieces: vec![piece.clone()], places: Vec::new() });
        }
        causes[at].places.push(*place);
    }
    causes
}

/// Places of a cause that its example is chosen from.
const EXAMPLES: usize = 24;
/// So many that differ by values only, in one scenario, are of one cause.
const MANY: usize = 4;

/// What differs by values only is one cause, where no scenario has two of it, or one has many.
fn alike(causes: Vec<Cause>) -> Vec<Cause> {
    let mut patterns: BTreeMap<(Kind, Piece), Vec<Cause>> = BTreeMap::new();
    for cause in causes {
        patterns.entry((cause.kind, general(&cause.pieces[0]))).or_default().push(cause);
    }
    let mut merged: Vec<Cause> = Vec::new();
    for ((kind, _), mut variants) in patterns {
        variants.sort_by_key(|cause| std::cmp::Reverse(scenarios(cause).len()));
        let mut of_scenarios: BTreeMap<usize, usize> = BTreeMap::new();
        for scenario in variants.iter().flat_map(scenarios) {
            *of_scenarios.entry(scenario).or_default() += 1;
        }
        // What was typed and what was served is told one by one, however much of it there is.
        let one_by_one = matches!(kind, Kind::Console | Kind::Files);
        let many = !one_by_one && of_scenarios.values().any(|count| *count >= MANY);
        let mut clusters: Vec<(BTreeSet<usize>, Cause)> = Vec::new();
        for cause in variants {
            let own = scenarios(&cause);
            // That lines stand in another order is one cause, however many do.
            let moved = matches!(cause.pieces[0], Piece::Moved { .. });
            let fits = clusters.iter_mut().filter(|(others, _)| moved || many || others.is_disjoint(&own));
            let best = fits.max_by_key(|(_, first)| likeness(&first.pieces[0], &cause.pieces[0]));
            match best {
                Some((others, cluster)) => {
                    others.extend(own);
                    cluster.pieces.extend(cause.pieces);
                    cluster.places.extend(cause.places);
                }
                None => clusters.push((own, cause)),
            }
        }
        merged.extend(clusters.into_iter().map(|(_, cause)| cause));
    }
    merged
}

/// What stands in the very same blocks is one cause.
fn in_the_same_places(causes: Vec<Cause>) -> Vec<Cause> {
    let mut together: BTreeMap<(Kind, Vec<usize>), Vec<Cause>> = BTreeMap::new();
    for cause in causes {
        let mut blocks: Vec<usize> = cause.places.iter().map(|place| place.block).collect();
        blocks.sort_unstable();
        together.entry((cause.kind, blocks)).or_default().push(cause);
    }
    together.into_values().map(merge).collect()
}

/// What only one scenario has is told together.
fn one_scenarios_own(causes: Vec<Cause>) -> Vec<Cause> {
    let mut own: BTreeMap<(Kind, usize), Vec<Cause>> = BTreeMap::new();
    let mut rest = Vec::new();
    for cause in causes {
        let scenarios = scenarios(&cause);
        match scenarios.first() {
            Some(one) if scenarios.len() == 1 => own.entry((cause.kind, *one)).or_default().push(cause),
            _ => rest.push(cause),
        }
    }
    rest.extend(own.into_values().map(merge));
    rest
}

/// Several as one, their pieces in the order of their places.
fn merge(mut causes: Vec<Cause>) -> Cause {
    // Of a block what is gone comes first.
    let order = |place: &Place| (place.block, place.at[0].is_none(), place.at);
    causes.sort_by_key(|cause| cause.places.iter().map(order).min());
    let mut merged = Cause { kind: causes[0].kind, pieces: Vec::new(), places: Vec::new() };
    for cause in causes {
        merged.pieces.extend(cause.pieces);
        merged.places.extend(cause.places);
    }
    merged.places.sort_by_key(order);
    merged
}

fn scenarios(cause: &Cause) -> BTreeSet<usize> {
    cause.places.iter().map(|place| place.scenario).collect()
}

/// A piece without its values.
pub fn general(piece: &Piece) -> Piece {
    match piece {
        Piece::Gone { line } => Piece::Gone { line: pattern(line) },
        Piece::Came { line } => Piece::Came { line: pattern(line) },
        Piece::Moved { within, .. } => Piece::Moved { line: String::new(), within: within.clone() },
        Piece::Content { line } => Piece::Content { line: pattern(line) },
        Piece::Became { words, line } => {
            let words = words.iter().map(|(from, to)| {
                let pair = (pattern(from), pattern(to));
                // A value and what it came for: each place has its own.
                if pair.0 == "…" || pair.1.ends_with('…') { ("…".into(), "…".into()) } else { pair }
            });
            Piece::Became { words: words.collect(), line: line.clone() }
        }
        other => other.clone(),
    }
}

/// Whether words can't be understood without their line: signs, or values.
fn say_little(words: &[(String, String)]) -> bool {
    let letters = |word: &str| pattern(word).chars().filter(|c| c.is_alphabetic()).count();
    words.iter().map(|(from, to)| letters(from) + letters(to)).sum::<usize>() < 4
}

/// How much of their beginnings and ends two pieces have in common.
fn likeness(one: &Piece, other: &Piece) -> usize {
    let (one, other) = (one.in_a_line(), other.in_a_line());
    let begin = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let end = one.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).count();
    begin + end
}
