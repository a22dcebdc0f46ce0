//! `meta-lava show`: print one scenario, rendered.

use clap::ValueEnum;

use crate::commands::{matrix, print};
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::lava::series::Series;
use crate::scenario::Rendered;
use crate::scenario::filter::FilterArgs;

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario
    name: String,
    /// As with a LAVA of this series: boards may be different with some [default: 2023.01]
    #[arg(long, value_name = "SERIES")]
    series: Option<Series>,
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
    /// The board
    Ghost,
    /// All of them
    All,
}

/// Prints a scenario as LAVA and the ghost get it.
///
/// # Errors
/// [`Error::NoMatch`] for an unknown name, [`Error::Usage`] when it can't be rendered.
pub async fn run(args: Args) -> Result<Exit> {
    let matrix = matrix()?;
    let chosen = FilterArgs { names: vec![args.name.clone()], ..FilterArgs::default() }.select(&matrix)?;
    let [scenario] = chosen.as_slice() else {
        let names: Vec<&str> = chosen.iter().map(|scenario| scenario.name.as_str()).collect();
        return Err(Error::Usage(format!("{:?} is more than one scenario: {}", args.name, names.join(", "))));
    };
    let rendered = matrix
        .render(scenario, args.series.unwrap_or(Series::OLDEST))
        .map_err(|problem| Error::Usage(problem.to_string()))?;
    print(&show(&rendered, args.part));
    Ok(Exit::Ok)
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
