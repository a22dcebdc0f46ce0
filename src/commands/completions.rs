//! `meta-lava completions`: a shell's completions.

use clap_complete::Shell;

use crate::commands::print;
use crate::error::Result;
use crate::exit_code::Exit;

/// Options of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints a script that the shell reads, for `program` as clap knows it.
///
/// # Errors
/// None; as the other commands.
pub fn run(args: Args, program: clap::Command) -> Result<Exit> {
    print(&script(args.shell, program));
    Ok(Exit::Ok)
}

fn script(shell: Shell, mut program: clap::Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "meta-lava", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_commands_and_their_options() {
        for shell in Shell::value_variants() {
            let script = script(*shell, crate::cli::command());
            for word in ["rerun", "doctor", "partition"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
