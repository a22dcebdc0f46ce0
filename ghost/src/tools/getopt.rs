//! Command lines as glibc's `getopt_long` takes them apart, which most of the tools call: options and
//! other words in any order, long options shortened as far as they are clear, and its own messages.
//!
//! Crates for command lines have other rules and other messages, and LAVA's log shows the latter.

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
    /// A value that is there only when it is written behind a `=`, or behind the letter.
    MayTakeValue,
}

/// An option: its letter, if it has one, its long name, if it has one, and what it takes.
pub(crate) type Option_ = (char, &'static str, Takes);

/// A letter that is none: of an option with a long name only.
pub(crate) const NO_LETTER: char = '\0';

/// A number, decimal or, behind `0x`, hexadecimal.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The options by the name that [`key`] gives them, in order.
    pub(crate) options: Vec<(String, Option<String>)>,
    /// The other words, in order.
    pub(crate) words: Vec<String>,
}

impl Parsed {
    /// The value of an option; of several the last.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }

    /// Whether an option was given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.options.iter().any(|(name, _)| name == key)
    }
}

/// What an option is called in [`Parsed`]: its long name, or its letter.
fn key((letter, long, _): &Option_) -> String {
    if long.is_empty() { letter.to_string() } else { (*long).to_owned() }
}

/// Takes `args` of the program `program` apart.
///
/// # Errors
/// What glibc prints of it, with the program's name.
pub(crate) fn parse(program: &str, args: &[String], options: &[Option_]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.words.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let option = find_long(name, options).map_err(|why| format!("{program}: {why}"))?;
            let key = key(option);
            let value = match (option.2, value) {
                (Takes::Nothing, Some(_)) => {
                    return Err(format!("{program}: option '--{key}' doesn't allow an argument"));
                }
                (Takes::Value, None) => Some(
                    rest.next()
                        .ok_or_else(|| format!("{program}: option '--{key}' requires an argument"))?
                        .clone(),
                ),
                (_, value) => value,
            };
            parsed.options.push((key, value));
        } else if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                let option = options
                    .iter()
                    .find(|(found, ..)| *found == letter && letter != NO_LETTER)
                    .ok_or_else(|| format!("{program}: invalid option -- '{letter}'"))?;
                let behind = letters.as_str();
                let value = match option.2 {
                    Takes::Nothing => {
                        parsed.options.push((key(option), None));
                        continue;
                    }
                    Takes::Value | Takes::MayTakeValue if !behind.is_empty() => Some(behind.to_owned()),
                    Takes::MayTakeValue => None,
                    Takes::Value => Some(
                        rest.next()
                            .ok_or_else(|| format!("{program}: option requires an argument -- '{letter}'"))?
                            .clone(),
                    ),
                };
                parsed.options.push((key(option), value));
                break;
            }
        } else {
            parsed.words.push(arg.clone());
        }
    }
    Ok(parsed)
}

/// The long option that `name` is, or is the clear beginning of.
fn find_long<'o>(name: &str, options: &'o [Option_]) -> Result<&'o Option_, String> {
    let long = || options.iter().filter(|(_, long, _)| !long.is_empty());
    if let Some(option) = long().find(|(_, long, _)| *long == name) {
        return Ok(option);
    }
    let begun: Vec<&Option_> = long().filter(|(_, long, _)| long.starts_with(name)).collect();
    match begun.as_slice() {
        [] => Err(format!("unrecognized option '--{name}'")),
        [option] => Ok(option),
        several => {
            let names: Vec<String> = several.iter().map(|(_, long, _)| format!("'--{long}'")).collect();
            Err(format!("option '--{name}' is ambiguous; possibilities: {}", names.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[Option_] = &[
        ('s', "serial", Takes::Value),
        ('v', "verbose", Takes::Nothing),
        (NO_LETTER, "version", Takes::Nothing),
        (NO_LETTER, "slot", Takes::MayTakeValue),
        ('x', "", Takes::Nothing),
    ];

    fn of(line: &str) -> Result<Parsed, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse("tool", &args, OPTIONS)
    }

    #[test]
    fn options_stand_anywhere_and_may_be_shortened() {
        for line in ["-s X flash boot", "flash -sX boot", "flash boot --serial X", "flash --ser=X boot"] {
            let parsed = of(line).unwrap();
            assert_eq!(parsed.value("serial"), Some("X"), "{line}");
            assert_eq!(parsed.words, ["flash", "boot"], "{line}");
        }
        assert!(of("-vx").unwrap().has("x"));
        assert_eq!(of("--slot").unwrap().value("slot"), None);
        assert_eq!(of("-v -- -x").unwrap().words, ["-x"]);
    }

    /// As glibc 2.36 printed them.
    #[test]
    fn what_is_wrong_is_said_as_glibc_says_it() {
        assert_eq!(of("--frob").unwrap_err(), "tool: unrecognized option '--frob'");
        assert_eq!(of("-z").unwrap_err(), "tool: invalid option -- 'z'");
        assert_eq!(of("-s").unwrap_err(), "tool: option requires an argument -- 's'");
        assert_eq!(of("--serial").unwrap_err(), "tool: option '--serial' requires an argument");
        assert_eq!(of("--verbose=1").unwrap_err(), "tool: option '--verbose' doesn't allow an argument");
        assert_eq!(
            of("--ver").unwrap_err(),
            "tool: option '--ver' is ambiguous; possibilities: '--verbose' '--version'"
        );
    }
}
