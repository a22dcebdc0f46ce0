//! A fault as a board's file says it.
//!
//! ```yaml
//! faults:
//! - when: {typed: '^dhcp'}
//!   then: [{print: "TIMEOUT\n"}, hang]
//! ```

use std::fmt;

use regex::Regex;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Moment;
use crate::ledger::{PowerAction, Stage};

/// A fault: when something goes wrong, and what.
#[derive(Debug, Clone)]
pub struct Fault {
    pub when: When,
    /// What happens then, in order.
    pub then: Vec<Deed>,
    /// How often it happens at most.
    pub times: u32,
}

/// When a fault happens.
#[derive(Debug, Clone)]
pub struct When {
    pub(super) trigger: Trigger,
    /// Only after as many starts of the board at most.
    pub starts: Option<u32>,
    /// Only in this stage.
    pub stage: Option<Stage>,
    /// From which such moment on, counted from 1.
    pub nth: u32,
}

/// What a fault waits for.
#[derive(Debug, Clone)]
pub(super) enum Trigger {
    Start,
    Stage(Stage),
    Printed(Regex),
    Typed(Regex),
    Fetch(Regex),
    Power(PowerAction),
    Tool(Regex),
    Opened,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Prints a text, wherever the console stands; of a power command or a tool, on its standard error.
    Print(String),
    /// Does not carry out the line that was typed.
    Ignore,
    /// Prints nothing more until the next start, and goes on.
    Silent,
    /// Does nothing more until power or a reset.
    Hang,
    /// Begins anew.
    Reset,
    /// Closes the serial port, and opens it for nobody for so many seconds.
    Close(u64),
    /// Prints the next so many characters with a flipped bit.
    Garble(u32),
    /// Loses the next so many characters that are typed.
    Lose(Lose),
    /// Waits so many milliseconds before it goes on.
    Wait(u64),
    /// Ends with this code and does not do what was asked for.
    Exit(u8),
    /// Is served otherwise.
    Serve(Serve),
    /// Closes a connection as soon as it is there.
    Refuse,
}

/// How typed characters are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lose {
    /// How many.
    pub characters: u32,
    /// After each so many that arrive, until the next start; once and at once where it does not say.
    pub after_each: Option<u32>,
}

/// How a file is served, or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serve {
    /// The first half of it.
    Short,
    /// As many other bytes.
    Wrong,
    /// Not at all: nobody answers.
    Nothing,
    /// The server says that there is no such file.
    Missing,
    /// The server says that it is not to be had.
    Denied,
}

impl When {
    /// Whether it is this moment, with the board in `stage` after so many `starts`.
    pub(super) fn is(&self, moment: Moment<'_>, stage: Stage, starts: u32) -> bool {
        let fits = match (&self.trigger, moment) {
            (Trigger::Start, Moment::Start) | (Trigger::Opened, Moment::Opened) => true,
            (Trigger::Stage(wanted), Moment::Stage(entered)) => *wanted == entered,
            (Trigger::Power(wanted), Moment::Power(action)) => *wanted == action,
            (Trigger::Printed(pattern), Moment::Printed(text))
            | (Trigger::Typed(pattern), Moment::Typed(text))
            | (Trigger::Fetch(pattern), Moment::Fetch(text))
            | (Trigger::Tool(pattern), Moment::Tool(text)) => pattern.is_match(text),
            _ => false,
        };
        fits && self.starts.is_none_or(|most| starts <= most)
            && self.stage.is_none_or(|wanted| wanted == stage)
    }
}

impl Deed {
    /// Its name in a file.
    fn name(&self) -> &'static str {
        match self {
            Self::Print(_) => "print",
            Self::Ignore => "ignore",
            Self::Silent => "silent",
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Close(_) => "close",
            Self::Garble(_) => "garble",
            Self::Lose(_) => "lose",
            Self::Wait(_) => "wait",
            Self::Exit(_) => "exit",
            Self::Serve(_) => "serve",
            Self::Refuse => "refuse",
        }
    }
}

impl Trigger {
    /// What can happen at such a moment.
    fn allows(&self) -> &'static [&'static str] {
        const BOARD: &[&str] = &["print", "silent", "hang", "reset", "close", "garble", "lose", "wait"];
        const TYPED: &[&str] =
            &["print", "ignore", "silent", "hang", "reset", "close", "garble", "lose", "wait"];
        match self {
            Self::Start | Self::Stage(_) | Self::Printed(_) => BOARD,
            Self::Typed(_) => TYPED,
            Self::Fetch(_) => &["serve", "hang", "reset", "wait"],
            Self::Power(_) | Self::Tool(_) => &["print", "exit", "hang", "wait"],
            Self::Opened => &["refuse"],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    when: WhenFile,
    then: Deeds,
    times: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhenFile {
    starts: Option<u32>,
    stage: Option<Stage>,
    printed: Option<Pattern>,
    typed: Option<Pattern>,
    fetch: Option<Pattern>,
    tool: Option<Pattern>,
    power: Option<PowerAction>,
    port: Option<PortFile>,
    nth: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PortFile {
    Opened,
}

struct Pattern(Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Regex::new(&text) {
            Ok(pattern) => Ok(Self(pattern)),
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(D::Error::custom(format!("`{text}` is no regular expression: {why}")))
            }
        }
    }
}

/// One deed, or several.
struct Deeds(Vec<Deed>);

impl<'de> Deserialize<'de> for Deeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Vec<Deed>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what happens then, such as `hang` or `print: TEXT`, or a list of it")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Vec<Deed>, E> {
                Deed::deserialize(StrDeserializer::new(word)).map(|deed| vec![deed])
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Deed>, A::Error> {
                Deed::deserialize(MapAccessDeserializer::new(map)).map(|deed| vec![deed])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<Deed>, A::Error> {
                let lists = Vec::<Deeds>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(lists.into_iter().flat_map(|deeds| deeds.0).collect())
            }
        }
        deserializer.deserialize_any(Any).map(Self)
    }
}

impl<'de> Deserialize<'de> for Lose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Of {
            characters: u32,
            after_each: u32,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Lose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of characters, or `characters` and `after_each`")
            }

            fn visit_u64<E: serde::de::Error>(self, characters: u64) -> Result<Lose, E> {
                let characters = u32::try_from(characters).map_err(E::custom)?;
                Ok(Lose { characters, after_each: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lose, A::Error> {
                let Of { characters, after_each } = Of::deserialize(MapAccessDeserializer::new(map))?;
                match after_each {
                    0 => Err(A::Error::custom("lose: after_each is 0, and no character would arrive")),
                    each => Ok(Lose { characters, after_each: Some(each) }),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let FaultFile { when, then, times } = FaultFile::deserialize(deserializer)?;
        Self::of(when, then.0, times).map_err(D::Error::custom)
    }
}

impl Fault {
    fn of(when: WhenFile, then: Vec<Deed>, times: Option<u32>) -> Result<Self, String> {
        let WhenFile { starts, stage, printed, typed, fetch, tool, power, port, nth } = when;
        let mut triggers: Vec<(&str, Trigger)> = Vec::new();
        triggers.extend(printed.map(|pattern| ("printed", Trigger::Printed(pattern.0))));
        triggers.extend(typed.map(|pattern| ("typed", Trigger::Typed(pattern.0))));
        triggers.extend(fetch.map(|pattern| ("fetch", Trigger::Fetch(pattern.0))));
        triggers.extend(tool.map(|pattern| ("tool", Trigger::Tool(pattern.0))));
        triggers.extend(power.map(|action| ("power", Trigger::Power(action))));
        triggers.extend(port.map(|PortFile::Opened| ("port", Trigger::Opened)));
        if let [(one, _), (other, _), ..] = triggers.as_slice() {
            return Err(format!("when: `{one}` and `{other}` are two moments; a fault waits for one"));
        }
        // What is said beside another moment narrows it, and alone is the moment itself.
        let (trigger, starts, stage, usual) = match (triggers.pop(), stage, starts) {
            (Some((_, trigger)), stage, starts) => (trigger, starts, stage, 1),
            (None, Some(stage), starts) => (Trigger::Stage(stage), starts, None, 1),
            (None, None, Some(starts)) => (Trigger::Start, Some(starts), None, starts),
            (None, None, None) => {
                return Err(
                    "when: says nothing; it needs one of `printed`, `typed`, `fetch`, `tool`, `power`, \
                            `port`, `stage` and `starts`"
                        .to_owned(),
                );
            }
        };
        if stage == Some(Stage::Off) || matches!(trigger, Trigger::Stage(Stage::Off)) {
            return Err("when: stage: a board that is off has no faults".to_owned());
        }
        if then.is_empty() {
            return Err("then: nothing happens".to_owned());
        }
        let allowed = trigger.allows();
        if let Some(deed) = then.iter().find(|deed| !allowed.contains(&deed.name())) {
            return Err(format!(
                "then: `{}` can't happen at such a moment; what can: {}",
                deed.name(),
                allowed.join(", ")
            ));
        }
        for (name, value) in [("starts", starts), ("nth", nth), ("times", times)] {
            if value == Some(0) {
                return Err(format!("{name}: 0; the fault would never happen"));
            }
        }
        let when = When { trigger, starts, stage, nth: nth.unwrap_or(1) };
        Ok(Self { when, then, times: times.unwrap_or(usual) })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deeds: Vec<String> = self.then.iter().map(Deed::to_string).collect();
        write!(f, "{}: {}", self.when.trigger, deeds.join(", "))
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Stage(stage) => write!(f, "stage {}", stage.name()),
            Self::Printed(pattern) => write!(f, "printed `{pattern}`"),
            Self::Typed(pattern) => write!(f, "typed `{pattern}`"),
            Self::Fetch(pattern) => write!(f, "fetch `{pattern}`"),
            Self::Power(action) => write!(f, "power {}", action.name()),
            Self::Tool(pattern) => write!(f, "tool `{pattern}`"),
            Self::Opened => f.write_str("port opened"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Print(text) => write!(f, "{name} {text:?}"),
            Self::Close(seconds) => write!(f, "{name} for {seconds} s"),
            Self::Garble(characters) => write!(f, "{name} {characters}"),
            Self::Lose(Lose { characters, after_each: None }) => write!(f, "{name} {characters}"),
            Self::Lose(Lose { characters, after_each: Some(each) }) => {
                write!(f, "{name} {characters} after each {each}")
            }
            Self::Wait(ms) => write!(f, "{name} {ms} ms"),
            Self::Exit(code) => write!(f, "{name} {code}"),
            Self::Serve(how) => {
                let how = match how {
                    Serve::Short => "short",
                    Serve::Wrong => "wrong",
                    Serve::Nothing => "nothing",
                    Serve::Missing => "missing",
                    Serve::Denied => "denied",
                };
                write!(f, "{name} {how}")
            }
            Self::Ignore | Self::Silent | Self::Hang | Self::Reset | Self::Refuse => f.write_str(name),
        }
    }
}
