//! Command lines as Python's `argparse` takes them apart, which the tools that are written in Python call: an option's
//! name is shortened as far as it is clear, with one dash as well as with two, and words that belong together stand together.
//!
//! Crates for command lines have other rules and other messages, and LAVA's log shows the latter. Rules and messages are
//! those of Python 3.11 (`Lib/argparse.py`); a later one puts no quotes around choices.

/// What stands behind an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
    /// All words up to the next option, and one at least (`nargs='+'`).
    Words,
}

/// What is wrong with a value, as argparse says it behind the option's name.
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// An option: its names with their dashes, what it takes, and what its value has to be.
pub(crate) struct Option_ {
    pub(crate) names: &'static [&'static str],
    pub(crate) takes: Takes,
    pub(crate) check: Check,
}

/// An option without a value.
pub(crate) const fn flag(names: &'static [&'static str]) -> Option_ {
    Option_ { names, takes: Takes::Nothing, check: |_| Ok(()) }
}

/// An option with a value that has to pass `check`.
pub(crate) const fn checked(names: &'static [&'static str], check: Check) -> Option_ {
    Option_ { names, takes: Takes::Value, check }
}

/// An option with any value.
pub(crate) const fn value(names: &'static [&'static str]) -> Option_ {
    checked(names, |_| Ok(()))
}

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The options by the last of their names, in order.
    pub(crate) options: Vec<(&'static str, Option<String>)>,
    /// The words that are nobody's value.
    pub(crate) words: Vec<String>,
    /// What argparse does not recognise: options that are none, and words for which there is no place.
    pub(crate) extra: Vec<String>,
}

impl Parsed {
    /// The value of an option; of several the last.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(found, _)| *found == name).and_then(|(_, value)| value.as_deref())
    }

    /// Whether an option was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(found, _)| *found == name)
    }
}

/// The message for a value that is none of `choices`.
pub(crate) fn choice(value: &str, choices: &[&str]) -> Result<(), String> {
    if choices.contains(&value) {
        return Ok(());
    }
    let choices: Vec<String> = choices.iter().map(|choice| format!("'{choice}'")).collect();
    Err(format!("invalid choice: '{value}' (choose from {})", choices.join(", ")))
}

/// Takes `args` apart. All words that are nobody's value have to stand together, `words` of them at most: behind the first
/// run of them there is no place for another one.
///
/// # Errors
/// What argparse prints behind `error: `.
pub(crate) fn parse(args: &[String], options: &[Option_], words: usize) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter().peekable();
    let mut in_run = false;
    while let Some(arg) = rest.next() {
        if !is_option(arg) {
            let has_place = (in_run || parsed.words.is_empty()) && parsed.words.len() < words;
            let list = if has_place { &mut parsed.words } else { &mut parsed.extra };
            list.push(arg.clone());
            in_run = true;
            continue;
        }
        in_run = false;
        let Some((option, given)) = find(arg, options)? else {
            parsed.extra.push(arg.clone());
            continue;
        };
        let shown = option.names.join("/");
        let wrong = |why: &str| format!("argument {shown}: {why}");
        let key = option.names.last().copied().unwrap_or_default();
        match (option.takes, given) {
            (Takes::Nothing, Some(given)) => {
                return Err(wrong(&format!("ignored explicit argument '{given}'")));
            }
            (Takes::Nothing, None) => parsed.options.push((key, None)),
            (Takes::Value | Takes::Words, Some(given)) => {
                (option.check)(&given).map_err(|why| wrong(&why))?;
                parsed.options.push((key, Some(given)));
            }
            (takes, None) => {
                let mut found = 0;
                while let Some(next) = rest.next_if(|next| !is_option(next)) {
                    found += 1;
                    (option.check)(next).map_err(|why| wrong(&why))?;
                    parsed.options.push((key, Some(next.clone())));
                    if takes == Takes::Value {
                        break;
                    }
                }
                if found == 0 {
                    let least = if takes == Takes::Words { "at least one argument" } else { "one argument" };
                    return Err(wrong(&format!("expected {least}")));
                }
            }
        }
    }
    Ok(parsed)
}

/// Whether argparse takes `arg` for an option: no negative number, and not `-` alone.
fn is_option(arg: &str) -> bool {
    arg.len() > 1 && arg.starts_with('-') && arg.parse::<f64>().is_err() && !arg.contains(' ')
}

/// The option that `arg` is, or is the clear beginning of, with a value that is written onto it.
fn find<'o>(arg: &str, options: &'o [Option_]) -> Result<Option<(&'o Option_, Option<String>)>, String> {
    let (name, value) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (arg, None),
    };
    let names = || options.iter().flat_map(|option| option.names.iter().map(move |name| (*name, option)));
    if let Some((_, option)) = names().find(|(found, _)| *found == name) {
        return Ok(Some((option, value)));
    }
    let mut begun: Vec<(&str, &Option_, Option<String>)> = names()
        .filter(|(found, _)| found.starts_with(name))
        .map(|(n, option)| (n, option, value.clone()))
        .collect();
    // `-tnrf52`: a letter with its value.
    if !arg.starts_with("--")
        && let Some((letter, behind)) = arg.split_at_checked(2)
        && !behind.is_empty()
    {
        begun.extend(
            names()
                .filter(|(found, _)| *found == letter)
                .map(|(n, option)| (n, option, Some(behind.to_owned()))),
        );
    }
    match begun.as_slice() {
        [] => Ok(None),
        [(_, option, value)] => Ok(Some((option, value.clone()))),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, ..)| *name).collect();
            Err(format!("ambiguous option: {arg} could match {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[Option_] = &[
        value(&["-u", "--uid", "--probe"]),
        value(&["-t", "--target"]),
        Option_ { names: &["-da", "--daparg"], takes: Takes::Words, check: |_| Ok(()) },
        flag(&["--trust-crc"]),
        flag(&["-W", "--no-wait"]),
        flag(&["--no-reset"]),
        checked(&["-e", "--erase"], |it| choice(it, &["auto", "chip"])),
    ];

    fn of(line: &str) -> Result<Parsed, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args, OPTIONS, usize::MAX)
    }

    #[test]
    fn names_may_be_shortened_with_one_dash_as_well_as_with_two() {
        for line in ["-u b x", "-ub x", "--uid b x", "--uid=b x", "--pro b x", "x --probe b"] {
            let parsed = of(line).unwrap();
            assert_eq!(
                (parsed.value("--probe"), parsed.words.as_slice()),
                (Some("b"), &["x".to_owned()][..]),
                "{line}"
            );
        }
        // pyOCD 0.46 takes it for `-da`, and goes on.
        assert_eq!(of("-d debug -t nrf52 x").unwrap().value("--daparg"), Some("debug"));
        assert!(of("--trust").unwrap().has("--trust-crc"));
    }

    #[test]
    fn words_that_do_not_stand_together_are_not_recognised() {
        assert_eq!(of("a b -t nrf52").unwrap().words, ["a", "b"]);
        assert_eq!(of("load -t nrf52 x.bin").unwrap().extra, ["x.bin"]);
        assert_eq!(of("--board b").unwrap().extra, ["--board"]);
        assert_eq!(of("-da a b -W c").unwrap().words, ["c"]);
        let args = ["x.bin".to_owned(), "-W".to_owned(), "bin".to_owned()];
        assert_eq!(parse(&args, OPTIONS, 2).unwrap().extra, ["bin"]);
    }

    /// As Python 3.11 printed them.
    #[test]
    fn what_is_wrong_is_said_as_argparse_says_it() {
        for (line, says) in [
            ("-t", "argument -t/--target: expected one argument"),
            ("-t -W", "argument -t/--target: expected one argument"),
            ("-da -W", "argument -da/--daparg: expected at least one argument"),
            ("-e all", "argument -e/--erase: invalid choice: 'all' (choose from 'auto', 'chip')"),
            ("--no", "ambiguous option: --no could match --no-wait, --no-reset"),
            ("--trust-crc=1", "argument --trust-crc: ignored explicit argument '1'"),
        ] {
            assert_eq!(of(line).unwrap_err(), says, "{line}");
        }
    }
}
