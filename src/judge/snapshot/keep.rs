//! Changes to what is expected: which files say it then, and in how few bytes.
//!
//! A text is written only where the chain of series does not give it already, as a
//! difference from the snapshot that it is most like. That base is named in the file and
//! stays, so that what is added later rewrites nothing; only when a base itself changes are
//! those that stand on it written anew, in the same write, with the texts that they had.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use meta_lava_formats::sha256;

use super::delta::{Delta, Outline, estimate};
use super::file::{Based, File};
use super::{Id, Kind, Store, Texts};
use crate::error::{Error, Result};
use crate::files::write_whole;

/// Most bases, one on the other, below a snapshot that is written.
const DEPTH: usize = 4;

/// How many of the nearest bases are tried.
const TRIED: usize = 3;

/// What a header with a base takes more.
const HEADER: usize = 110;

/// What became of the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Snapshots whose text the chain gives already: they have no file.
    pub given: BTreeSet<Id>,
    /// Snapshots that were written although their text is the same: their base changed.
    pub rebased: BTreeSet<Id>,
}

/// What is written, and what for.
struct Plan {
    /// What is there now.
    files: BTreeMap<Id, File>,
    /// Texts of what is there then, as far as they are known.
    texts: Texts,
    /// Bases of what is there then.
    bases: HashMap<Id, Option<Id>>,
    outlines: HashMap<Id, Outline>,
}

impl Store {
    /// Makes these texts what is expected; without a text, a snapshot is taken away. All of
    /// it or nothing: a file that can't be written puts the others back.
    ///
    /// # Errors
    /// [`Error::Usage`] for a text without a line, and for files that can't be read, see
    /// [`Store::check`]; [`Error::Infrastructure`] when it can't be written.
    pub fn keep(&self, changes: BTreeMap<Id, Option<String>>) -> Result<Kept> {
        let mut kept = Kept::default();
        let kinds: BTreeSet<Kind> = changes.keys().map(|id| id.kind).collect();
        let mut plan = self.plan(&kinds, |id| !changes.contains_key(id))?;

        // What there is then. Older series first: the chain gives newer ones their texts.
        let mut old: Texts = Texts::new();
        let mut written: BTreeSet<Id> = BTreeSet::new();
        let mut by_series: Vec<(Id, Option<String>)> = changes.into_iter().collect();
        by_series.sort_by_key(|(id, _)| id.series);
        let mut gone: BTreeSet<Id> = BTreeSet::new();
        for (id, text) in by_series {
            let given = match &text {
                None => true,
                Some(text) if text.trim_end().is_empty() => {
                    return Err(Error::Usage(format!(
                        "{id}: a text without a line can't be what is expected; a run must have lost it"
                    )));
                }
                Some(text) => {
                    let older = plan
                        .bases
                        .keys()
                        .filter(|other| id.is_of_the_same(other) && other.series < id.series);
                    match older.max_by_key(|other| other.series).cloned() {
                        None => false,
                        Some(older) => match plan.texts.get(&older) {
                            Some(other) => &**other == text.trim_end(),
                            None => *self.full(&older, &mut old)? == *text.trim_end(),
                        },
                    }
                }
            };
            match text {
                Some(text) if !given => {
                    plan.texts.insert(id.clone(), text.trim_end().into());
                    plan.bases.entry(id.clone()).or_default();
                    written.insert(id);
                }
                text => {
                    plan.bases.remove(&id);
                    if text.is_some() {
                        kept.given.insert(id.clone());
                    }
                    gone.insert(id);
                }
            }
        }

        // What stands on that keeps its text.
        let mut touched = written.clone();
        for (id, file) in &plan.files {
            if written.contains(id) || gone.contains(id) {
                continue;
            }
            if let Some(base) = file.base()
                && (written.contains(base) || gone.contains(base))
            {
                plan.texts.insert(id.clone(), self.full(id, &mut old)?);
                touched.insert(id.clone());
                kept.rebased.insert(id.clone());
            }
        }
        for id in &touched {
            if plan.bases.get(id).is_some_and(|base| base.as_ref().is_some_and(|base| gone.contains(base))) {
                plan.bases.insert(id.clone(), None);
            }
        }
        let mut files = BTreeMap::new();
        for id in &touched {
            let file = self.choose(id, &mut plan, &mut old)?;
            files.insert(id.clone(), Some(file));
        }
        for id in gone {
            files.insert(id, None);
        }
        self.write_all(files)?;
        Ok(kept)
    }

    /// Writes everything anew in as few bytes as can be found, and says how many there were
    /// and are. What is expected stays.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub fn compact(&self) -> Result<(usize, usize)> {
        let mut files = BTreeMap::new();
        let (mut before, mut after) = (0, 0);
        for kind in Kind::ALL {
            let plan = self.plan(&BTreeSet::from([kind]), |_| true)?;
            let mut texts = Texts::new();
            for id in plan.files.keys() {
                self.full(id, &mut texts)?;
            }
            let chosen = compacted(&texts);
            let were = plan.files.iter().map(|(id, file)| file.written(id).len()).sum::<usize>();
            let are =
                chosen.iter().filter_map(|(id, file)| Some(file.as_ref()?.written(id).len())).sum::<usize>();
            before += were;
            // What `keep` chose file by file, with each delta's true size at hand, may be better.
            after += were.min(are);
            if are < were {
                files.extend(chosen);
            }
        }
        self.write_all(files)?;
        Ok((before, after))
    }

    /// Reads what there is of some kinds; one that is about to be replaced may be broken.
    fn plan(&self, kinds: &BTreeSet<Kind>, must_be_sound: impl Fn(&Id) -> bool) -> Result<Plan> {
        let mut files = BTreeMap::new();
        for id in self.ids()? {
            if !kinds.contains(&id.kind) {
                continue;
            }
            match File::read(&self.path(&id)) {
                Ok(file) => files.extend(file.map(|file| (id, file))),
                Err(problem) if must_be_sound(&id) => return Err(self.refuse(problem)),
                Err(_) => {}
            }
        }
        let bases = files.iter().map(|(id, file)| (id.clone(), file.base().cloned())).collect();
        Ok(Plan { files, texts: Texts::new(), bases, outlines: HashMap::new() })
    }

    /// The text of a snapshot that is there.
    fn full(&self, id: &Id, texts: &mut Texts) -> Result<Arc<str>> {
        let text = self.text(id, texts).map_err(|problem| self.refuse(problem))?;
        text.ok_or_else(|| Error::Usage(format!("there is no snapshot {id}")))
    }

    /// The file of a snapshot whose text is known.
    fn choose(&self, id: &Id, plan: &mut Plan, old: &mut Texts) -> Result<File> {
        let text = Arc::clone(&plan.texts[id]);
        let height = plan.height(id);
        let mut best: Option<Based> = None;
        // One that is broken is no base any more.
        let before = plan.bases.get(id).cloned().flatten();
        let before = before.and_then(|base| Some((self.then(&base, plan, old).ok()?, base)));
        if let Some((of, base)) = before {
            best = Some(based(&base, &of, &text));
        } else if height > 0 && matches!(plan.files.get(id), Some(File::Text(_))) {
            // Others are seen against it: it stays as it is.
            return Ok(File::Text(text.to_string()));
        }
        if best.as_ref().is_none_or(|based| based.delta.size() * 8 > text.len()) {
            let outline = Outline::of(&text);
            let mut nearest: Vec<(usize, Id)> = Vec::new();
            let others: Vec<Id> =
                plan.bases.keys().filter(|other| plan.may_stand_on(id, other, height)).cloned().collect();
            for other in others {
                if !plan.outlines.contains_key(&other) {
                    // One that is broken is no base; `check` tells of it.
                    let Ok(text) = self.then(&other, plan, old) else { continue };
                    plan.outlines.insert(other.clone(), Outline::of(&text));
                }
                nearest.push((cost((&other, &plan.outlines[&other]), (id, &outline)), other));
            }
            nearest.sort();
            let before = best.as_ref().map(|best| best.delta.size());
            for (_, other) in nearest.into_iter().take(TRIED) {
                let found = based(&other, &self.then(&other, plan, old)?, &text);
                let size = found.delta.size();
                // The base that it has must be worth leaving.
                let enough = before.is_none_or(|before| size * 10 < before * 7);
                if enough && best.as_ref().is_none_or(|best| size < best.delta.size()) {
                    best = Some(found);
                }
            }
        }
        let best = best.filter(|based| based.delta.size() + HEADER < text.len());
        plan.bases.insert(id.clone(), best.as_ref().map(|based| based.base.clone()));
        Ok(best.map_or_else(|| File::Text(text.to_string()), File::Delta))
    }

    /// The text that a snapshot has then.
    fn then(&self, id: &Id, plan: &Plan, old: &mut Texts) -> Result<Arc<str>> {
        plan.texts.get(id).map_or_else(|| self.full(id, old), |text| Ok(Arc::clone(text)))
    }

    /// Writes and removes files; puts back what there was when one can't be written.
    fn write_all(&self, files: BTreeMap<Id, Option<File>>) -> Result<()> {
        let mut done: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        let mut result = Ok(());
        for (id, file) in &files {
            let path = self.path(id);
            let before = fs::read(&path).ok();
            let now = file.as_ref().map(|file| file.written(id).into_bytes());
            if before == now {
                continue;
            }
            result = put(&path, now.as_deref());
            done.push((path, before));
            if result.is_err() {
                break;
            }
        }
        if result.is_err() {
            for (path, before) in &done {
                let _ = put(path, before.as_deref());
            }
            return result;
        }
        for (path, _) in done {
            // Until one is not empty.
            let above = path.ancestors().skip(1).take_while(|folder| *folder != self.folder());
            let _ = above.into_iter().try_for_each(fs::remove_dir);
        }
        Ok(())
    }
}

fn put(path: &std::path::Path, bytes: Option<&[u8]>) -> Result<()> {
    match bytes {
        Some(bytes) => write_whole(path, bytes),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::failed(format!("remove {}", path.display()), error))
            }
            _ => Ok(()),
        },
    }
}

impl Plan {
    /// How many bases are below a snapshot.
    fn depth(&self, id: &Id) -> usize {
        let mut depth = 0;
        let mut at = id;
        while let Some(Some(base)) = self.bases.get(at) {
            depth += 1;
            if depth > self.bases.len() {
                break;
            }
            at = base;
        }
        depth
    }

    /// How many stand on a snapshot, one on the other.
    fn height(&self, id: &Id) -> usize {
        let mut height = 0;
        let mut level = BTreeSet::from([id]);
        while height <= DEPTH {
            let on = |base: &Option<Id>| base.as_ref().is_some_and(|base| level.contains(base));
            level = self.bases.iter().filter(|(_, base)| on(base)).map(|(id, _)| id).collect();
            if level.is_empty() {
                break;
            }
            height += 1;
        }
        height
    }

    fn may_stand_on(&self, id: &Id, base: &Id, height: usize) -> bool {
        base.kind == id.kind
            && base.series <= id.series
            && base != id
            && self.depth(base) + 1 + height <= DEPTH
            && !self.stands_on(base, id)
    }

    fn stands_on(&self, id: &Id, base: &Id) -> bool {
        let mut at = id;
        let mut steps = 0;
        while let Some(Some(next)) = self.bases.get(at) {
            steps += 1;
            if next == base || steps > self.bases.len() {
                return true;
            }
            at = next;
        }
        false
    }
}

/// What a base costs: one of another suite, which is there for something particular, must
/// be clearly nearer.
fn cost((base, of): (&Id, &Outline), (id, text): (&Id, &Outline)) -> usize {
    let cost = estimate(of, text);
    if base.suite == id.suite { cost } else { cost + cost / 5 }
}

fn based(base: &Id, of: &str, text: &str) -> Based {
    Based { base: base.clone(), sha256: sha256(text.as_bytes()), delta: Delta::between(of, text) }
}

/// Files for all of these texts: a tree of bases that are as near as can be. `None` is one
/// whose text the chain gives.
fn compacted(texts: &Texts) -> BTreeMap<Id, Option<File>> {
    let mut files: BTreeMap<Id, Option<File>> = BTreeMap::new();
    let mut ids: Vec<&Id> = texts.keys().collect();
    ids.sort_by_key(|id| (id.series, *id));
    let given = |id: &Id| {
        let older = texts.keys().filter(|other| id.is_of_the_same(other) && other.series < id.series);
        older.max_by_key(|other| other.series).is_some_and(|older| texts[older] == texts[id])
    };
    files.extend(ids.iter().filter(|id| given(id)).map(|id| ((*id).clone(), None)));
    ids.retain(|id| !files.contains_key(*id));
    let outlines: Vec<Outline> = in_parallel(&ids, |id| Outline::of(&texts[*id]));
    let costs = |from: usize, to: usize| cost((ids[from], &outlines[from]), (ids[to], &outlines[to]));
    // Which is whose base, the best known so far and what it costs.
    let mut depths: Vec<Option<usize>> = vec![None; ids.len()];
    let mut nearest: Vec<Option<(usize, usize)>> = vec![None; ids.len()];
    let mut bases: Vec<Option<usize>> = vec![None; ids.len()];
    let mut begin = 0;
    while begin < ids.len() {
        let end = begin + ids[begin..].iter().take_while(|id| id.series == ids[begin].series).count();
        loop {
            let open = (begin..end).filter(|at| depths[*at].is_none());
            let next = open.clone().filter_map(|at| nearest[at].map(|(cost, _)| (cost, at))).min();
            let at = match next {
                Some((_, at)) => at,
                // The first of all: the one that the others are most like.
                None => {
                    let all = |from: usize| (begin..end).map(|to| costs(from, to)).sum::<usize>();
                    match open.map(|at| (all(at), at)).min() {
                        Some((_, at)) => at,
                        None => break,
                    }
                }
            };
            bases[at] = nearest[at].map(|(_, base)| base);
            let depth = bases[at].and_then(|base| depths[base]).map_or(0, |depth| depth + 1);
            depths[at] = Some(depth);
            if depth < DEPTH {
                for to in begin..ids.len() {
                    if depths[to].is_none() {
                        let cost = (costs(at, to), at);
                        if nearest[to].is_none_or(|nearest| cost < nearest) {
                            nearest[to] = Some(cost);
                        }
                    }
                }
            }
        }
        begin = end;
    }
    let made = in_parallel(&(0..ids.len()).collect::<Vec<_>>(), |at| {
        let id = ids[*at];
        let full = File::Text(texts[id].to_string());
        let Some(base) = bases[*at] else { return full };
        // The costs are estimates: of the few that seem nearest, and of what it did with an
        // older LAVA, the one that is.
        let below = |other: &usize| ids[*other].series <= id.series && depths[*other] < depths[*at];
        let older = (0..*at).rev().find(|older| ids[*older].is_of_the_same(id)).filter(below);
        let mut nearest: Vec<(usize, usize)> =
            (0..ids.len()).filter(below).map(|other| (costs(other, *at), other)).collect();
        nearest.sort_unstable();
        let tried: BTreeSet<usize> =
            nearest.iter().take(TRIED).map(|(_, other)| *other).chain(older).chain([base]).collect();
        let all = tried.into_iter().map(|other| based(ids[other], &texts[ids[other]], &texts[id]));
        let Some(based) = all.min_by_key(|based| based.delta.size()) else { return full };
        if based.delta.size() + HEADER < texts[id].len() { File::Delta(based) } else { full }
    });
    files.extend(ids.into_iter().cloned().zip(made.into_iter().map(Some)));
    files
}

/// `work` on each of `items`, on as many threads as there are cores.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = items.len().div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<_> = items
            .chunks(each)
            .map(|items| scope.spawn(move || items.iter().map(work).collect::<Vec<R>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
