//! `meta-lava show`: print one scenario, rendered.

use std::path::Path;
use std::str::FromStr;

use clap::ValueEnum;

use crate::commands::{matrix, one, print, server_image};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::judge::snapshot::{Expected, File, Id, Kind, Store};
use crate::lava::series::Series;
use crate::root::root;
use crate::scenario::{Matrix, Rendered, Scenario};
use crate::stack::docker::Engine;
use crate::stack::images::{Lava, LavaArgs, Which};
use crate::stack::provision::DeviceSpec;
use crate::stack::templates;

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario
    name: String,
    /// As with a LAVA of this series, such as 2026.10, or with this LAVA, such as `debian:sid`: boards may be
    /// different with some, and more is expected of some [default: 2023.01; for the device that of `run`, for
    /// what is expected the newest that there are expectations of]
    #[arg(long, visible_alias = "lava", value_name = "SERIES")]
    series: Option<Of>,
    /// What of it
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
}

/// Parts of a rendered scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The job that LAVA is given
    Job,
    /// The device's dictionary
    Dictionary,
    /// The device as LAVA renders it: its dictionary and LAVA's template, with the job's context; needs Docker
    Device,
    /// The board
    Ghost,
    /// What is expected: results, ledger and log in full
    Expected,
    /// The results that are expected, as a file whose lines a difference counts
    Results,
    /// The same of the ledger
    Ledger,
    /// The same of the log
    Log,
    /// Job, dictionary and board
    All,
}

/// A LAVA, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Of {
    Series(Series),
    Lava(Which),
}

impl FromStr for Of {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (Series::of(text), text.parse()) {
            (Ok(series), _) => Ok(Self::Series(series)),
            (_, Ok(which)) => Ok(Self::Lava(which)),
            (Err(_), Err(why)) => Err(format!(
                "`{text}` is neither a series of LAVA such as 2023.01 nor the name of one: {why}"
            )),
        }
    }
}

impl Of {
    async fn lava(this: Option<Self>, root: &Path) -> Result<Lava> {
        match this {
            Some(Self::Series(series)) => Lava::of_series(root, series).await,
            Some(Self::Lava(which)) => LavaArgs::of(which).lava(root).await,
            None => LavaArgs::default().lava(root).await,
        }
    }

    pub(super) async fn series(self, root: &Path) -> Result<Series> {
        match self {
            Self::Series(series) => Ok(series),
            Self::Lava(which) => {
                let name = which.to_string();
                LavaArgs::of(which).lava(root).await?.series().ok_or_else(|| {
                    Error::Usage(format!("of {name} only its server knows which series it is; name a series"))
                })
            }
        }
    }
}

/// Prints a scenario as LAVA and the ghost get it.
///
/// # Errors
/// [`Error::NoMatch`] for an unknown name, [`Error::Usage`] when it can't be rendered.
pub async fn run(args: Args) -> Result<Exit> {
    let matrix = matrix()?;
    let scenario = one(&matrix, &args.name)?;
    let only = match args.part {
        Part::Results => Some(Kind::Results),
        Part::Ledger => Some(Kind::Ledger),
        Part::Log => Some(Kind::Log),
        _ => None,
    };
    let root = root()?;
    if args.part == Part::Device {
        let lava = Of::lava(args.series, &root).await?;
        print(&device(&matrix, scenario, &lava, &root).await?);
        return Ok(Exit::Ok);
    }
    let series = match args.series {
        Some(of) => Some(of.series(&root).await?),
        None => None,
    };
    if only.is_some() || args.part == Part::Expected {
        print(&expected(&Store::new(&root), scenario, series, only)?);
        return Ok(Exit::Ok);
    }
    let rendered = matrix
        .render(scenario, series.unwrap_or(Series::OLDEST))
        .map_err(|problem| Error::Usage(problem.to_string()))?;
    print(&show(&rendered, args.part));
    Ok(Exit::Ok)
}

/// Its devices as `lava` renders them.
async fn device(matrix: &Matrix, scenario: &Scenario, lava: &Lava, root: &Path) -> Result<String> {
    let series = lava.series().unwrap_or(Series::OLDEST);
    let rendered = matrix.render(scenario, series).map_err(|problem| Error::Usage(problem.to_string()))?;
    let engine = Engine::connect().await?;
    let image = server_image(&engine, root, lava).await?;
    let known = templates::in_image(&engine, &image).await?;
    let context = context(&rendered.job);
    let mut text = String::new();
    for device in &rendered.devices {
        let spec = DeviceSpec {
            hostname: device.hostname.clone(),
            device_type: device.device_type.clone(),
            worker: String::new(),
            tags: Vec::new(),
            dictionary: device.dictionary.clone(),
        };
        if let Some(missing) = templates::missing(&device.device_type, &known) {
            return Err(Error::NoMatch(missing));
        }
        text.push_str(&format!("# device {} on {}\n", device.hostname, lava.name));
        text.push_str(&templates::render(&engine, &image, &spec, &context).await?);
    }
    Ok(text)
}

/// What a job says for the device's template.
fn context(job: &str) -> serde_json::Value {
    let job: serde_yaml::Value = serde_yaml::from_str(job).unwrap_or_default();
    let context = job.get("context").and_then(|context| serde_json::to_value(context).ok());
    context.unwrap_or_else(|| serde_json::json!({}))
}

/// What is expected of a scenario; of one kind as a file that would have all of it.
fn expected(
    store: &Store,
    scenario: &Scenario,
    series: Option<Series>,
    only: Option<Kind>,
) -> Result<String> {
    let series = match series {
        Some(series) => series,
        None => store.newest()?.unwrap_or(Series::OLDEST),
    };
    let mut text = String::new();
    for kind in Kind::ALL.into_iter().filter(|kind| only.is_none_or(|only| only == *kind)) {
        let id = Id::of(scenario, series, kind);
        let found = store.expected(&id)?;
        match (found, only) {
            (None, Some(_)) => {
                return Err(Error::NoMatch(format!("nothing is expected yet of {}", id.scenario())));
            }
            (None, None) => text.push_str(&format!("# {}: nothing is expected yet\n\n", kind.name())),
            (Some(Expected { id, text: full }), Some(_)) => {
                text = File::Text(full.to_string()).written(&id);
            }
            (Some(Expected { id, text: full }), None) => {
                let path = store.path(&id);
                let path = path.strip_prefix(store.root()).unwrap_or(&path);
                text.push_str(&format!(
                    "# {} of LAVA {series}, by {}\n{full}\n\n",
                    kind.name(),
                    path.display()
                ));
            }
        }
    }
    Ok(text)
}

fn show(rendered: &Rendered, part: Part) -> String {
    let mut text = String::new();
    let mut add = |this: Part, title: String, body: &str| {
        if part == Part::All {
            text.push_str(&format!("# {title}\n{}\n\n", body.trim_end()));
        } else if part == this {
            text.push_str(body);
        }
    };
    add(Part::Job, "job".into(), &rendered.job);
    for device in &rendered.devices {
        let title =
            format!("device {}: a {}, tags {}", device.hostname, device.device_type, device.tags.join(", "));
        add(Part::Dictionary, title, &device.dictionary);
    }
    for board in &rendered.boards {
        let ports: Vec<String> = board.ports.iter().map(ToString::to_string).collect();
        add(Part::Ghost, format!("ghost {}: consoles on {}", board.name, ports.join(", ")), &board.ghost);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_shown_whole_whatever_it_is_kept_as() {
        let matrix = crate::scenario::tests::matrix();
        let (bbb, juno) = (&matrix.scenarios[0], &matrix.scenarios[1]);
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        let text = |word: &str| format!("{}{word}", "a line that both have, of some length\n".repeat(20));
        let id = |scenario, series: &str| Id::of(scenario, series.parse().unwrap(), Kind::Log);
        store
            .keep([(id(bbb, "2023.01"), Some(text("bbb"))), (id(juno, "2023.01"), Some(text("juno")))].into())
            .unwrap();
        store.keep([(id(juno, "2026.10"), Some(text("newer")))].into()).unwrap();
        let shown = |series: Option<&str>, only| {
            expected(&store, juno, series.map(|series| series.parse().unwrap()), only).unwrap()
        };
        let header = "---\nsource: jobs/health-checks/juno/scenario.yaml\nexpression: log\n---\n";
        assert_eq!(shown(Some("2023.01"), Some(Kind::Log)), format!("{header}{}\n", text("juno")));
        assert_eq!(shown(None, Some(Kind::Log)), format!("{header}{}\n", text("newer")));
        let all = shown(Some("2026.09"), None);
        assert!(all.starts_with("# results: nothing is expected yet\n"), "{all}");
        assert!(
            all.contains("# log of LAVA 2026.09, by expected/health-checks/juno/log.snap\na line"),
            "{all}"
        );
        assert!(expected(&store, juno, None, Some(Kind::Ledger)).is_err());
    }

    #[test]
    fn a_lava_is_a_series_or_a_name() {
        let of = |text: &str| text.parse::<Of>();
        assert_eq!(of("2026.10"), Ok(Of::Series("2026.10".parse().unwrap())));
        assert_eq!(of("debian:sid"), Ok(Of::Lava("debian:sid".parse().unwrap())));
        assert!(of("fedora").unwrap_err().contains("`debian`, `debian:SUITE`"));
    }

    #[test]
    fn the_templates_are_given_the_jobs_context() {
        assert_eq!(
            context("context: {extra_kernel_args: quiet}"),
            serde_json::json!({"extra_kernel_args": "quiet"})
        );
        assert_eq!(context("actions: []"), serde_json::json!({}));
    }

    #[test]
    fn a_part_alone_is_the_bare_text_and_all_parts_have_titles() {
        let matrix = crate::scenario::tests::matrix();
        let rendered = matrix.render(&matrix.scenarios[0], Series::OLDEST).unwrap();
        assert_eq!(show(&rendered, Part::Job), rendered.job);
        assert_eq!(show(&rendered, Part::Dictionary), rendered.devices[0].dictionary);
        let all = show(&rendered, Part::All);
        assert!(all.contains("# device bbb-01: a beaglebone-black, tags bbb-01\n{% extends"), "{all}");
        assert!(all.contains("# ghost bbb-01: consoles on 21000\nmodel:"), "{all}");
    }
}
