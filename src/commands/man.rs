//! `meta-lava man`: the manual pages.

use std::path::PathBuf;

use clap_mangen::Man;

use crate::commands::print;
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::files::write_whole;

/// Options of `man`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write this page and one for each command to a folder instead, such as share/man/man1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the page of `program`, or writes all of them.
///
/// # Errors
/// [`Error::Infrastructure`] when they can't be written.
pub fn run(args: Args, program: clap::Command) -> Result<Exit> {
    let pages = pages(program).map_err(|error| Error::failed("make a page", error))?;
    match args.dir {
        Some(dir) => {
            for (name, page) in &pages {
                write_whole(&dir.join(name), page)?;
            }
        }
        None => {
            for (_, page) in pages.iter().take(1) {
                print(&String::from_utf8_lossy(page));
            }
        }
    }
    Ok(Exit::Ok)
}

/// File names and contents: the program's page, then one for each command.
fn pages(program: clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    // Built, so that the page of `meta-lava run` is meta-lava-run(1), as git-log(1) is.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    std::iter::once(program.clone())
        .chain(program.get_subcommands().cloned())
        .map(|command| {
            let man = Man::new(command);
            let mut page = Vec::new();
            man.render(&mut page)?;
            Ok((man.get_filename(), page))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_the_program_and_one_for_each_command() {
        let pages = pages(crate::cli::command()).unwrap();
        assert_eq!(pages[0].0, "meta-lava.1");
        let run = pages.iter().find(|(name, _)| name == "meta-lava-run.1").unwrap();
        let text = String::from_utf8_lossy(&run.1).replace('\\', "");
        assert!(text.contains("--partition") && text.contains("meta-lava run"), "{text}");
        assert!(!pages.iter().any(|(name, _)| name.contains("help")));
    }
}
