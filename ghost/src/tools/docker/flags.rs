//! Command lines as pflag takes them apart, which Docker's client and rclone do it with (`flag.go` of `spf13/pflag`): each option in full,
//! letters together, and a value behind a `=` or in the next word. Crates for command lines have other rules and other messages,
//! and LAVA's log shows the latter.

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tools) enum Takes {
    /// Nothing, or `=true` and the like.
    Switch,
    Text,
    /// A whole number.
    Number,
    /// A number with a point, as `--cpus` has it.
    Decimal,
    /// A size, as `--memory` has it.
    Bytes,
    /// See [`super::mounts`].
    Mount,
}

/// An option: its letter, or NUL; its name; what it takes.
pub(in crate::tools) type Flag = (char, &'static str, Takes);

/// A letter that is none.
pub(in crate::tools) const NONE: char = '\0';

/// A command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::tools) struct Parsed {
    /// The options by their name, in order.
    options: Vec<(&'static str, String)>,
    /// The other words.
    pub(in crate::tools) words: Vec<String>,
}

impl Parsed {
    /// The values of an option.
    pub(in crate::tools) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(found, _)| *found == name).map(|(_, value)| value.as_str())
    }

    /// Its value; of several the last.
    pub(in crate::tools) fn value(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// The names of those that are there.
    pub(in crate::tools) fn names(&self) -> impl Iterator<Item = &str> {
        self.options.iter().map(|(name, _)| *name)
    }

    /// Whether a switch is on.
    pub(in crate::tools) fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| truth(value) == Some(true))
    }
}

/// `strconv.ParseBool`.
pub(in crate::tools) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Takes `args` apart. Where options must come first (`only_first`), the first other word ends them.
///
/// # Errors
/// What pflag says of it.
pub(in crate::tools) fn parse(args: &[String], flags: &[Flag], only_first: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.words.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (long, None),
            };
            let flag = flags.iter().find(|(_, long, _)| *long == name);
            let flag = flag.ok_or_else(|| format!("unknown flag: --{name}"))?;
            let value = match (value, flag.2) {
                (Some(value), _) => value,
                (None, Takes::Switch) => "true",
                (None, _) => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            parsed.take(flag, value)?;
        } else if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut left = letters;
            while let Some(letter) = left.chars().next() {
                let behind = &left[letter.len_utf8()..];
                let flag = flags.iter().find(|(found, ..)| *found == letter && letter != NONE);
                let flag = flag.ok_or_else(|| format!("unknown shorthand flag: '{letter}' in -{left}"))?;
                let value = match (behind.strip_prefix('='), flag.2) {
                    (Some(value), _) => value,
                    (None, Takes::Switch) => {
                        parsed.take(flag, "true")?;
                        left = behind;
                        continue;
                    }
                    (None, _) if !behind.is_empty() => behind,
                    (None, _) => {
                        rest.next().ok_or_else(|| format!("flag needs an argument: '{letter}' in -{left}"))?
                    }
                };
                parsed.take(flag, value)?;
                break;
            }
        } else {
            parsed.words.push(arg.clone());
            if only_first {
                parsed.words.extend(rest.cloned());
                break;
            }
        }
    }
    Ok(parsed)
}

impl Parsed {
    fn take(&mut self, &(letter, name, takes): &Flag, value: &str) -> Result<(), String> {
        let wrong = match takes {
            Takes::Switch if truth(value).is_none() => {
                Some(format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"))
            }
            Takes::Number if value.parse::<i64>().is_err() => {
                Some(format!("strconv.ParseInt: parsing \"{value}\": invalid syntax"))
            }
            Takes::Decimal if value.parse::<f64>().is_err() => {
                Some(format!("failed to parse {value} as a rational number"))
            }
            Takes::Bytes if !is_size(value) => Some(format!("invalid size: '{value}'")),
            Takes::Mount => super::mounts::parse(value).err(),
            _ => None,
        };
        if let Some(why) = wrong {
            let letter = if letter == NONE { String::new() } else { format!("-{letter}, ") };
            return Err(format!("invalid argument \"{value}\" for \"{letter}--{name}\" flag: {why}"));
        }
        self.options.push((name, value.to_owned()));
        Ok(())
    }
}

/// `RAMInBytes` of `docker/go-units`.
fn is_size(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches('i');
    let number = number.strip_suffix(['k', 'm', 'g', 't', 'p']).unwrap_or(number);
    number.trim_end().parse::<f64>().is_ok_and(|size| size >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        ('i', "interactive", Takes::Switch),
        ('t', "tty", Takes::Switch),
        ('w', "workdir", Takes::Text),
        ('m', "memory", Takes::Bytes),
        (NONE, "name", Takes::Text),
        (NONE, "rm", Takes::Switch),
    ];

    fn of(line: &str) -> Result<Parsed, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args, FLAGS, true)
    }

    #[test]
    fn options_end_at_the_first_other_word() {
        for line in ["-it --name=a --rm image sh -w x", "-i -t --name a --rm=true image sh -w x"] {
            let parsed = of(line).unwrap();
            assert!(parsed.has("interactive") && parsed.has("tty") && parsed.has("rm"), "{line}");
            assert_eq!(parsed.value("name"), Some("a"));
            assert_eq!(parsed.words, ["image", "sh", "-w", "x"]);
        }
        for line in ["-w/a x", "-w=/a x", "-w /a x", "--workdir /a x"] {
            assert_eq!(of(line).unwrap().value("workdir"), Some("/a"), "{line}");
        }
    }

    /// As Docker 20.10.24 printed them.
    #[test]
    fn what_is_wrong_is_said_as_pflag_says_it() {
        for (line, says) in [
            ("--frob x", "unknown flag: --frob"),
            ("-q", "unknown shorthand flag: 'q' in -q"),
            ("--name", "flag needs an argument: --name"),
            (
                "--rm=maybe x",
                "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            ("--memory=a x", "invalid argument \"a\" for \"-m, --memory\" flag: invalid size: 'a'"),
        ] {
            assert_eq!(of(line).unwrap_err(), says, "{line}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert!(["0", "512m", "1g", "1.5GiB", "10kb"].iter().all(|text| is_size(text)));
        assert!(["", "a", "-1", "1x"].iter().all(|text| !is_size(text)));
    }
}
