//! The scenarios of a run, in their order, and the lab that they need.

use crate::error::{Error, Result};
use crate::lava::series::Series;
use crate::scenario::{Matrix, Scenario};
use crate::stack::provision::DeviceSpec;
use crate::stack::{BoardFile, Lab};

/// The lab that scenarios need with a LAVA of `series`, on `workers` workers.
///
/// # Errors
/// [`Error::Usage`] for a scenario that can't be rendered.
pub fn lab(matrix: &Matrix, scenarios: &[&Scenario], series: Series, workers: usize) -> Result<Lab> {
    let mut lab = Lab::default();
    let mut groups = Vec::new();
    for scenario in scenarios {
        let rendered =
            matrix.render(scenario, series).map_err(|problem| Error::Usage(problem.to_string()))?;
        groups.push(rendered.boards.iter().map(|board| board.name.clone()).collect());
        lab.boards.extend(rendered.boards.into_iter().map(|board| BoardFile {
            name: board.name,
            text: board.ghost,
            consoles: board.ports,
            off_is_the_end: board.off_is_the_end,
            guest: board.guest,
        }));
        lab.devices.extend(rendered.devices.into_iter().map(|device| DeviceSpec {
            hostname: device.hostname,
            device_type: device.device_type,
            worker: String::new(),
            tags: device.tags,
            dictionary: device.dictionary,
        }));
    }
    lab.spread(workers, &groups);
    Ok(lab)
}

/// The order in which scenarios begin. Without a seed those that may take long are
/// first, so that none is left alone at the end. With one: by a hash of seed and
/// name, so that a scenario's place among others does not depend on what else runs,
/// nor on a library's version.
pub fn in_order<'s>(scenarios: &[&'s Scenario], seed: Option<u64>) -> Vec<&'s Scenario> {
    let mut scenarios = scenarios.to_vec();
    match seed {
        None => scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.timeout)),
        Some(seed) => {
            let hash = |name: &str| meta_lava_formats::sha256(format!("{seed} {name}").as_bytes());
            scenarios.sort_by_cached_key(|scenario| hash(&scenario.name));
        }
    }
    scenarios
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::folder;

    #[test]
    fn a_seed_gives_an_order_of_its_own_that_stays_when_others_are_left_out() {
        let folder = folder();
        let matrix = Matrix::load(folder.path()).unwrap();
        let all: Vec<&Scenario> = matrix.scenarios.iter().collect();
        let names = |scenarios: &[&Scenario], seed| -> Vec<String> {
            in_order(scenarios, seed).into_iter().map(|scenario| scenario.name.clone()).collect()
        };
        let orders: std::collections::BTreeSet<_> = (0..50).map(|seed| names(&all, Some(seed))).collect();
        assert!(orders.len() > 4, "{orders:?}");
        let mut without_last = names(&all, Some(7));
        assert_eq!(without_last, names(&all, Some(7)));
        without_last.retain(|name| *name != all[all.len() - 1].name);
        assert_eq!(names(&all[..all.len() - 1], Some(7)), without_last);
    }
}
