//! LAVA's series: the year and month that its versions begin with.
//!
//! What is expected, skipped, masked or broken may depend on the series of the LAVA
//! under test, never on its full version: `2026.07-28-gd27bcfdb5` is judged as `2026.07`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::text::printable;

/// A series, such as `2023.01`; an older one is less than a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    year: u16,
    month: u8,
}

impl Series {
    /// The oldest one that this repository knows: Debian bookworm's.
    pub const OLDEST: Self = Self { year: 2023, month: 1 };

    /// The series of a LAVA's `version`: `2023.01` of `2023.01-2`, `2026.07` of
    /// `2026.07-28-gd27bcfdb5`.
    ///
    /// # Errors
    /// [`Error::Usage`] when the version does not begin like that: nobody could tell which
    /// expectations are its own.
    pub fn of(version: &str) -> Result<Self> {
        Self::prefix(version).ok_or_else(|| {
            let shown: String = printable(version).chars().take(100).collect();
            Error::Usage(format!(
                "this LAVA says that its version is `{shown}`, which does not begin with year and month as \
                 LAVA's releases do (`2023.01`): there is no telling what is expected of it. Images that are \
                 built by hand take their version from LAVA's git tags, or from its file `VERSION`"
            ))
        })
    }

    fn prefix(version: &str) -> Option<Self> {
        let (series, rest) = version.split_at_checked(7)?;
        // Not the beginning of a longer number.
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let (year, month) = series.split_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if year.len() != 4 || !digits(year) || !digits(month) {
            return None;
        }
        let (year, month) = (year.parse().ok()?, month.parse().ok()?);
        (1..=12).contains(&month).then_some(Self { year, month })
    }

    /// The one that the next month would be.
    fn next(self) -> Self {
        match self.month {
            12.. => Self { year: self.year.saturating_add(1), month: 1 },
            month => Self { month: month + 1, ..self },
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}.{:02}", self.year, self.month)
    }
}

impl FromStr for Series {
    type Err = String;

    /// Exactly a series, as in a path or in YAML.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let series = Self::prefix(text).filter(|_| text.len() == 7);
        series.ok_or_else(|| format!("`{}` is not a series of LAVA such as 2023.01", printable(text)))
    }
}

/// Some series in a row: `2023.01`, `>=2026.07`, `<2026.07`, `>=2026.07 <2026.11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first one of it.
    from: Option<Series>,
    /// The first one after it.
    before: Option<Series>,
}

impl Range {
    /// Whether `series` is one of it.
    #[must_use]
    pub fn contains(&self, series: Series) -> bool {
        self.from.is_none_or(|from| from <= series) && self.before.is_none_or(|before| series < before)
    }

    /// What of it is before `series`; `None` where nothing is that is known.
    #[must_use]
    pub fn before(self, series: Series) -> Option<Self> {
        let before = self.before.map_or(series, |before| before.min(series));
        let from = self.from.unwrap_or(Series::OLDEST);
        (from < before).then_some(Self { before: Some(before), ..self })
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut range = Self { from: None, before: None };
        let mut terms = 0;
        for term in text.split_whitespace() {
            terms += 1;
            let at = term.find(|c: char| !"<>=".contains(c)).unwrap_or(term.len());
            let (sign, series) = term.split_at(at);
            let series: Series = series.parse()?;
            let (from, before) = match sign {
                ">=" => (Some(series), None),
                ">" => (Some(series.next()), None),
                "<" => (None, Some(series)),
                "<=" => (None, Some(series.next())),
                "" | "=" => (Some(series), Some(series.next())),
                _ => return Err(format!("`{sign}` is none of `<`, `<=`, `>`, `>=` and `=`")),
            };
            range.from = range.from.max(from);
            range.before = match (range.before, before) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        match (range.from, range.before) {
            _ if terms == 0 => Err("says no series; write such as `<2026.07` or `>=2026.07 <2026.11`".into()),
            (Some(from), Some(before)) if from >= before => {
                Err(format!("`{}` is no series at all", printable(text)))
            }
            _ => Ok(range),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.before) {
            (Some(from), Some(before)) if from.next() == before => write!(f, "{from}"),
            (Some(from), Some(before)) => write!(f, ">={from} <{before}"),
            (Some(from), None) => write!(f, ">={from}"),
            (None, Some(before)) => write!(f, "<{before}"),
            (None, None) => Ok(()),
        }
    }
}

/// As the text that they are parsed from.
macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Text::deserialize(deserializer)?.0.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_text!(Series);
as_text!(Range);

/// What must be a string: YAML takes a bare 2026.10 for the number 2026.1.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a series of LAVA in quotes, such as \"2026.10\" or \">=2026.07\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(text: &str) -> Series {
        text.parse().unwrap()
    }

    #[test]
    fn a_series_is_the_first_part_of_a_version() {
        for (version, expected) in [
            ("2023.01-2", "2023.01"),
            ("2026.07-28-gd27bcfdb5", "2026.07"),
            ("2026.07.0028.gd27bcfdb5", "2026.07"),
            ("2026.10-1", "2026.10"),
            ("2026.10+dfsg1-1", "2026.10"),
            ("2026.10", "2026.10"),
        ] {
            assert_eq!(Series::of(version).unwrap(), series(expected), "{version}");
        }
        for version in ["dev", "", "2023.1", "2023.13", "2023.00", "2023.011", "älter als", "+023.01", "2023"]
        {
            let error = Series::of(version).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{version}");
        }
    }

    #[test]
    fn series_are_in_the_order_of_their_months() {
        assert!(series("2023.01") < series("2023.12"));
        assert!(series("2023.12") < series("2026.01"));
        assert_eq!(series("2023.01"), Series::OLDEST);
        assert!("2023.01-2".parse::<Series>().is_err());
    }

    #[test]
    fn a_range_has_what_all_of_its_terms_have() {
        let of = |range: &str| {
            let range: Range = range.parse().unwrap();
            ["2023.01", "2026.06", "2026.07", "2026.10", "2026.11"].map(|one| range.contains(series(one)))
        };
        assert_eq!(of("2023.01"), [true, false, false, false, false]);
        assert_eq!(of(">=2026.07"), [false, false, true, true, true]);
        assert_eq!(of(">2026.07"), [false, false, false, true, true]);
        assert_eq!(of("<2026.07"), [true, true, false, false, false]);
        assert_eq!(of("<=2026.07"), [true, true, true, false, false]);
        assert_eq!(of(">=2026.07 <2026.11"), [false, false, true, true, false]);
    }

    #[test]
    fn a_range_that_means_nothing_is_refused() {
        for (range, why) in [
            ("", "no series"),
            ("  ", "no series"),
            ("<2026.07 >=2026.07", "no series at all"),
            ("=>2026.07", "none of"),
            ("< 2026.07", "not a series"),
            (">=2026.7", "not a series"),
        ] {
            let error = range.parse::<Range>().unwrap_err();
            assert!(error.contains(why), "{range}: {error}");
        }
    }

    #[test]
    fn in_yaml_a_series_is_a_string_since_a_number_would_lose_its_zero() {
        assert_eq!(serde_yaml::from_str::<Series>("\"2026.10\"").unwrap(), series("2026.10"));
        let error = serde_yaml::from_str::<Series>("2026.10").unwrap_err().to_string();
        assert!(error.contains("in quotes"), "{error}");
        assert_eq!(serde_yaml::from_str::<Range>("'<2026.07'").unwrap().to_string(), "<2026.07");
        assert_eq!(serde_json::to_string(&series("2026.10")).unwrap(), "\"2026.10\"");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(year in 1000u16..9999, month in 1u8..=12, year2 in 1000u16..9999, month2 in 1u8..=12) {
            let (one, other) = (Series { year, month }, Series { year: year2, month: month2 });
            prop_assert_eq!(one.to_string().parse::<Series>().unwrap(), one);
            for text in [format!("{one}"), format!(">={one}"), format!("<{one}"), format!(">={} <={}", one.min(other), one.max(other))] {
                let range: Range = text.parse().unwrap();
                prop_assert_eq!(range.to_string().parse::<Range>().unwrap(), range);
            }
        }

        #[test]
        fn any_text_is_a_series_and_a_range_or_an_error(text in "[0-9.<>= -]{0,20}|\\PC{0,12}") {
            let _ = (Series::of(&text), text.parse::<Series>(), text.parse::<Range>());
        }
    }
}
