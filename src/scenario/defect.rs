//! What a LAVA is known to do wrong in a scenario: the key `defect` of its `scenario.yaml`.
//!
//! Such a scenario means what LAVA should do, and the defect says what one does instead. So nothing
//! but the key has to go once LAVA does right.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Ends;
use crate::lava::series::Range;

/// A defect of LAVA's that a scenario shows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defect {
    /// The series that have it.
    pub series: Range,
    /// What LAVA does wrong, in a sentence: the title of an issue.
    pub about: String,
    /// What it should do instead.
    pub right: String,
    /// The issue in LAVA's tracker, where there is one.
    #[serde(default)]
    pub upstream: Option<String>,
    /// What is in the texts as long as LAVA has the defect.
    pub shows: Sign,
    /// What would be in them if it had not. That nothing of `shows` is left is no proof: a job
    /// that dies earlier does not show it either.
    pub would_show: Sign,
    /// How the job ends by this defect, where its scenario means another end.
    #[serde(default)]
    pub ends: Option<Ends>,
    /// Test cases that fail by this defect, named as a scenario's `fails` are.
    #[serde(default)]
    pub fails: Vec<String>,
}

/// Parts of lines, by the text that they are in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sign {
    /// In LAVA's results.
    pub results: Option<String>,
    /// In the boards' ledgers.
    pub ledger: Option<String>,
    /// In LAVA's log.
    pub log: Option<String>,
}

impl Sign {
    /// The part of a line that is in the text called `results`, `ledger` or `log`, if any.
    #[must_use]
    pub fn of(&self, text: &str) -> Option<&str> {
        let part = match text {
            "results" => &self.results,
            "ledger" => &self.ledger,
            "log" => &self.log,
            _ => &None,
        };
        part.as_deref()
    }

    fn parts(&self) -> impl Iterator<Item = &String> {
        [&self.results, &self.ledger, &self.log].into_iter().flatten()
    }

    /// Why it could be no sign, if so.
    fn fault(&self) -> Option<&'static str> {
        if self.parts().next().is_none() {
            return Some("name at least one of `results`, `ledger` and `log`, with a part of a line in it");
        }
        let is_no_part = |part: &String| part.trim().is_empty() || part.contains('\n');
        self.parts().any(is_no_part).then_some("a sign is a part of one line")
    }
}

impl Defect {
    /// Why it could not be told or be found, if so.
    fn fault(&self) -> Option<String> {
        let is_no_line = |text: &str| text.trim().is_empty() || text.contains('\n');
        if is_no_line(&self.about) {
            return Some("about: say in one line what LAVA does wrong".into());
        }
        if self.right.trim().is_empty() {
            return Some("right: say what LAVA should do instead".into());
        }
        let is_address = |url: &String| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !url.contains(char::is_whitespace))
        };
        if self.upstream.as_ref().is_some_and(|url| !is_address(url)) {
            return Some("upstream: the address of an issue, https://…".into());
        }
        let sign = |key: &str, sign: &Sign| sign.fault().map(|fault| format!("{key}: {fault}"));
        sign("shows", &self.shows).or_else(|| sign("would_show", &self.would_show))
    }
}

/// `defect:` in a file: one, or a list.
#[derive(Debug, Clone, Default)]
pub(super) struct DefectsFile(pub(super) Vec<Defect>);

impl<'de> Deserialize<'de> for DefectsFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Vec<Defect>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a defect (`series`, `about`, `right`, `shows`, `would_show`), or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Defect>, A::Error> {
                Ok(vec![Defect::deserialize(MapAccessDeserializer::new(map))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<Defect>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq))
            }
        }
        let defects = deserializer.deserialize_any(OneOrMore)?;
        match defects.iter().find_map(Defect::fault) {
            Some(fault) => Err(D::Error::custom(format!("defect: {fault}"))),
            None => Ok(Self(defects)),
        }
    }
}
