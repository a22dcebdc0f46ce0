//! `meta-lava completions`: a shell's completions.
//!
//! What the shell is given is a few lines that call this program again, with what has been typed:
//! scenarios, suites and predicates change with the repository, and only it knows them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write;

use clap_complete::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use crate::commands::print;
use crate::error::{Error, Result};
use crate::exit_code::Exit;
use crate::scenario::Matrix;
use crate::scenario::filter::Field;

/// Where it stands, this program is called by a shell that completes: which one.
const ASKED: &str = "META_LAVA_COMPLETE";

const BASH: &str = r#"_meta_lava() {
    COMPREPLY=()
    local candidate
    while IFS= read -r candidate; do
        COMPREPLY+=("$candidate")
    done < <(META_LAVA_COMPLETE=bash "${1/#\~/$HOME}" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    # More is to be typed behind these.
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[\(=/] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
if [[ ${BASH_VERSINFO[0]} -gt 4 || ( ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 ) ]]; then
    complete -o bashdefault -o default -o nosort -F _meta_lava meta-lava
else
    complete -o bashdefault -o default -F _meta_lava meta-lava
fi
"#;

const ZSH: &str = r#"#compdef meta-lava
_meta_lava() {
    local -a found spaced tight
    local one
    found=("${(@f)$(META_LAVA_COMPLETE=zsh ${(Q)words[1]/#\~/$HOME} "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    for one in "${(@)found}"; do
        case $one in
            '') ;;
            *[\(=/]) tight+=("$one") ;;
            *) spaced+=("$one") ;;
        esac
    done
    if (( ! $#spaced && ! $#tight )); then
        _files
        return
    fi
    (( $#tight )) && compadd -S '' -a tight
    (( $#spaced )) && compadd -a spaced
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _meta_lava "$@"
else
    compdef _meta_lava meta-lava
fi
"#;

const FISH: &str = r#"function __meta_lava_complete
    set -l typed (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l found (META_LAVA_COMPLETE=fish $typed[1] $typed[2..-1] "$current" 2>/dev/null)
    if set --query found[1]
        string join \n -- $found
    else
        __fish_complete_path "$current"
    end
end
complete --command meta-lava --no-files --keep-order --arguments "(__meta_lava_complete)"
"#;

/// Options of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints a script that the shell reads.
///
/// # Errors
/// [`Error::Infrastructure`] when there is none for the shell.
pub fn run(args: Args) -> Result<Exit> {
    print(&script(args.shell)?);
    Ok(Exit::Ok)
}

fn script(shell: Shell) -> Result<String> {
    Ok(match shell {
        Shell::Bash => BASH.to_owned(),
        Shell::Zsh => ZSH.to_owned(),
        Shell::Fish => FISH.to_owned(),
        other => {
            let failed = |why: String| Error::infrastructure(format!("no completions for {other}: {why}"));
            let name = other.to_string();
            let shells = Shells::builtins();
            let shell = shells.completer(&name).ok_or_else(|| failed("not known".into()))?;
            let mut script = Vec::new();
            shell
                .write_registration(ASKED, "meta-lava", "meta-lava", "meta-lava", &mut script)
                .map_err(|error| failed(error.to_string()))?;
            String::from_utf8_lossy(&script).into_owned()
        }
    })
}

/// The answer to a shell that completes, where it is one that asks. Nothing of it may break what
/// the shell shows, so there are no errors: only nothing to choose from.
#[must_use]
pub fn answer() -> Option<Exit> {
    let shell = env::var(ASKED).ok()?;
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let candidates = match (shell.as_str(), words.as_slice()) {
        // The line up to the cursor, and what of it will be replaced.
        ("bash", [line, replaced]) => in_bash(&line.to_string_lossy(), &replaced.to_string_lossy()),
        ("zsh", [before @ .., current]) => complete(before.to_vec(), &current.to_string_lossy()),
        ("fish", [before @ .., current]) => {
            // As it is typed, with the quote that is still open.
            let current = typed(&current.to_string_lossy()).pop().unwrap_or_default();
            complete(before.to_vec(), &current.text)
        }
        _ => {
            let mut said = Vec::new();
            let shells = Shells::builtins();
            let words = words.into_iter().skip_while(|word| word != "--").skip(1).collect();
            let mut program = program();
            let written = shells.completer(&shell).map(|shell| {
                shell.write_complete(&mut program, words, env::current_dir().ok().as_deref(), &mut said)
            });
            let _ = written.map(|_| std::io::stdout().write_all(&said));
            return Some(Exit::Ok);
        }
    };
    // A reader that went away wants no more.
    let lines: String = candidates.iter().map(|candidate| format!("{candidate}\n")).collect();
    let _ = std::io::stdout().write_all(lines.as_bytes());
    Some(Exit::Ok)
}

/// The program, with what its arguments can be.
fn program() -> clap::Command {
    crate::cli::command().mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        command.mut_args(|arg| match (name.as_str(), arg.get_id().as_str()) {
            ("self-test", "names") => arg.add(ArgValueCompleter::new(sabotages)),
            ("ghost", "board") => arg.add(ArgValueCompleter::new(boards)),
            ("show", "name") | (_, "names") => arg.add(ArgValueCompleter::new(scenarios)),
            (_, "suites") => arg.add(ArgValueCompleter::new(suites)),
            (_, "expressions") => arg.add(ArgValueCompleter::new(|typed: &OsStr| {
                let typed = typed.to_string_lossy();
                matrix().map(|matrix| candidates(expressions(&typed, &matrix))).unwrap_or_default()
            })),
            _ => arg,
        })
    })
}

/// What of the repository could be read: a mistake in one file is no reason to know no other.
fn matrix() -> Option<Matrix> {
    Some(Matrix::load_with_problems(&crate::root::root().ok()?).0)
}

fn candidates(values: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    values.into_iter().map(CompletionCandidate::new).collect()
}

fn scenarios(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let Some(matrix) = matrix() else { return Vec::new() };
    let name = |scenario: &crate::scenario::Scenario| {
        if typed.contains('/') { scenario.id() } else { scenario.name.clone() }
    };
    candidates(matrix.scenarios.iter().map(name).filter(|name| name.starts_with(&*typed)))
}

fn boards(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let Some(matrix) = matrix() else { return Vec::new() };
    candidates(matrix.boards.into_keys().filter(|board| board.starts_with(&*typed)))
}

fn suites(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let matrix = matrix();
    let known = matrix.iter().flat_map(|matrix| matrix.suites.keys());
    candidates(known.filter(|suite| suite.starts_with(&*typed)).cloned())
}

fn sabotages(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let Ok(root) = crate::root::root() else { return Vec::new() };
    let known = crate::sabotage::load_with_problems(&root).0;
    candidates(known.into_iter().map(|sabotage| sabotage.name).filter(|name| name.starts_with(&*typed)))
}

/// What the filter expression `typed` can go on as.
fn expressions(typed: &str, matrix: &Matrix) -> Vec<String> {
    // Where the last predicate's value begins, if its parenthesis is open.
    let open = typed.rfind('(').filter(|at| !typed[*at..].contains(')'));
    let word_before = |at: usize| {
        let head = &typed[..at];
        let from = head
            .rfind(|c: char| !c.is_ascii_lowercase())
            .map_or(0, |at| at + head[at..].chars().next().map_or(1, char::len_utf8));
        (from, &head[from..])
    };
    if let Some(at) = open
        && let Some(field) = Field::ALL.into_iter().find(|field| field.word() == word_before(at).1)
    {
        let value = typed[at + 1..].trim_start();
        let (kind, value) = match value.strip_prefix('=') {
            Some(value) => ("=", value),
            None => ("", value),
        };
        let mut values: Vec<String> = matrix.scenarios.iter().flat_map(|one| field.values(one)).collect();
        values.sort();
        values.dedup();
        // A value may have what is more than itself in an expression.
        let is_plain = |text: &str| !text.contains(['(', ')', '*', '?', '[', '{', '\\', '\n']);
        values.retain(|text| text.starts_with(value) && is_plain(text));
        return values.into_iter().map(|value| format!("{}({kind}{value})", &typed[..at])).collect();
    }
    if typed.trim_end().ends_with(')') {
        // A predicate is complete: it can stay so, or an operator follows.
        return match typed.ends_with(char::is_whitespace) {
            false => vec![typed.to_owned()],
            true => ["& ", "| ", "- "].map(|operator| format!("{typed}{operator}")).to_vec(),
        };
    }
    let (from, word) = word_before(typed.len());
    let predicates = Field::ALL.map(|field| format!("{}(", field.word())).into_iter();
    predicates
        .chain(["all()", "none()"].map(str::to_owned))
        .filter(|predicate| predicate.starts_with(word))
        .map(|predicate| format!("{}{predicate}", &typed[..from]))
        .collect()
}

/// What can stand at the end of the words `before` and what of the last one is `current`.
fn complete(before: Vec<OsString>, current: &str) -> Vec<String> {
    let mut words = vec![OsString::from("meta-lava")];
    words.extend(before);
    words.push(current.into());
    let at = words.len() - 1;
    let here = env::current_dir().ok();
    let found = clap_complete::engine::complete(&mut program(), words, at, here.as_deref());
    let mut found: Vec<String> = found
        .unwrap_or_default()
        .iter()
        .map(|candidate| candidate.get_value().to_string_lossy().into_owned())
        .collect();
    // Where names are asked for, options are in the way until a `-` is typed.
    if current.is_empty() && found.iter().any(|value| !value.starts_with('-')) {
        found.retain(|value| !value.starts_with('-'));
    }
    found
}

/// What bash replaces `replaced` with, the end of `line`. It cuts words at `:` and `=`, too.
fn in_bash(line: &str, replaced: &str) -> Vec<String> {
    let mut words = typed(line);
    let Some(Typed { text: current, quote }) = words.pop() else { return Vec::new() };
    let before = words.into_iter().skip(1).map(|word| word.text.into()).collect();
    let kept = current.strip_suffix(replaced).unwrap_or_default();
    let fits = |value: String| {
        let value = value.strip_prefix(kept)?.to_owned();
        // What a shell would read as its own is quoted.
        let is_special = value.contains(|c: char| "()&|!;<>'\"\\`$*?[]{}~# \t".contains(c));
        Some(match quote {
            None if is_special && kept.is_empty() => format!("'{value}"),
            _ => value,
        })
    };
    complete(before, &current).into_iter().filter_map(fits).collect()
}

/// A word of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    /// Without its quotes.
    text: String,
    /// The quote that is open at its end.
    quote: Option<char>,
}

/// The words of a line as a shell reads them; the last one is what is being typed, and may be
/// empty. What else a shell knows (variables, substitutions) is left as it stands.
fn typed(line: &str) -> Vec<Typed> {
    let mut words = vec![Typed::default()];
    let mut chars = line.chars();
    let mut began = false;
    while let Some(c) = chars.next() {
        let Some(word) = words.last_mut() else { break };
        match (word.quote, c) {
            (None, ' ' | '\t' | '\n') => {
                if began {
                    words.push(Typed::default());
                }
                began = false;
                continue;
            }
            (None, '\'' | '"') => word.quote = Some(c),
            (Some(quote), c) if quote == c => word.quote = None,
            (None | Some('"'), '\\') => word.text.extend(chars.next()),
            (_, c) => word.text.push(c),
        }
        began = true;
    }
    words
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_a_script_that_asks_this_program() {
        for shell in Shell::value_variants() {
            assert!(script(*shell).unwrap().contains(ASKED), "{shell}");
        }
    }

    #[test]
    fn commands_options_and_their_values_are_completed() {
        let of = |before: &[&str], current| complete(before.iter().map(OsString::from).collect(), current);
        assert_eq!(of(&[], "do"), ["down", "doctor"]);
        assert_eq!(of(&["run"], "--part"), ["--partition"]);
        assert_eq!(of(&["show", "--part"], "le"), ["ledger"]);
        assert_eq!(of(&["list", "--format"], ""), ["text", "json"]);
        // The repository's own.
        assert_eq!(of(&["run", "x15"], "jun"), ["juno", "juno-uefi-shell"]);
        assert_eq!(of(&["show"], "health-checks/x15"), ["health-checks/x15"]);
        assert_eq!(of(&["list", "--suite"], "fe"), ["features"]);
        assert!(of(&["run"], "").iter().any(|name| name == "x15"));
    }

    #[test]
    fn an_expression_is_completed_where_it_is() {
        let matrix = crate::scenario::tests::matrix();
        let of = |typed: &str| expressions(typed, &matrix);
        assert_eq!(of("f"), ["firmware(", "family("]);
        assert_eq!(of("firmware("), ["firmware(u-boot)"]);
        assert_eq!(of("!firmware(u-boot) & na"), ["!firmware(u-boot) & name("]);
        assert_eq!(of("(suite(=l"), ["(suite(=lab)"]);
        assert_eq!(of("all() & (tag(s"), ["all() & (tag(slow)"]);
        assert_eq!(of("name(juno)"), ["name(juno)"]);
        assert_eq!(of("name(juno) "), ["name(juno) & ", "name(juno) | ", "name(juno) - "]);
        assert_eq!(of("nobody(x"), [""; 0]);
        assert_eq!(of("name(/x"), [""; 0]);
        assert_eq!(of("é").len(), 10);
    }

    #[test]
    fn words_are_read_as_a_shell_reads_them() {
        let of = |line: &str| typed(line).into_iter().map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(of("a  b\\ c 'd e' \"f\\\"g"), ["a", "b c", "d e", "f\"g"]);
        assert_eq!(of("a "), ["a", ""]);
        assert_eq!(typed("x 'y").pop(), Some(Typed { text: "y".into(), quote: Some('\'') }));
    }

    #[test]
    fn bash_is_given_what_it_replaces() {
        assert_eq!(in_bash("meta-lava run --suite=fea", "fea"), ["features"]);
        assert_eq!(in_bash("meta-lava run -E 'suite(fea", "suite(fea"), ["suite(features)"]);
        assert_eq!(in_bash("meta-lava run -E firmw", "firmw"), ["'firmware("]);
    }
}
