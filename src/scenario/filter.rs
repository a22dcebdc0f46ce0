//! Chooses scenarios: names, `--suite`, `-E` expressions and `--partition`.
//!
//! The expressions are those of cargo-nextest's filtersets:
//!
//! ```text
//! -E 'suite(health-checks) & !firmware(u-boot)'
//! -E 'name(/^imx8/) - tag(slow)'      -E 'type(=juno) or family(~nfs)'
//! ```

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use winnow::combinator::{alt, opt, peek};
use winnow::error::{ErrMode, ModalResult, ParserError};
use winnow::stream::{Location, Stream};
use winnow::token::{any, take_while};
use winnow::{LocatingSlice, Parser};

use crate::error::{Error, Result};
use crate::scenario::{Matrix, Scenario};
use crate::text::{did_you_mean, nearest};

/// Options that choose scenarios.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// Scenarios, by name or glob
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Scenarios that an expression matches, such as 'firmware(u-boot) & !suite(failures)'
    ///
    /// Predicates: suite(x), name(x), type(x), board(x), firmware(x), family(x), tag(x),
    /// with(setting=x), all(), none(); x is =exact, ~contains, /regex/ or a glob. They combine with
    /// &, |, !, - and parentheses.
    #[arg(short = 'E', long = "filterset", value_name = "EXPR")]
    pub expressions: Vec<String>,
    /// Scenarios of a suite
    #[arg(long = "suite", value_name = "SUITE")]
    pub suites: Vec<String>,
    /// One part of the chosen scenarios, for CI: slice:1/4
    #[arg(long, value_name = "slice:M/N")]
    pub partition: Option<String>,
}

impl FilterArgs {
    /// Whether they choose anything.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.names.is_empty()
            || !self.expressions.is_empty()
            || !self.suites.is_empty()
            || self.partition.is_some()
    }

    /// The scenarios of `matrix` that are chosen, in its order. Names are OR-ed, so
    /// are expressions and suites; a scenario has to match one of each that was given.
    /// A part of a partition may be empty.
    ///
    /// # Errors
    /// [`Error::NoMatch`] when nothing matched; [`Error::Usage`] for what is no
    /// expression, glob or partition.
    pub fn select<'m>(&self, matrix: &'m Matrix) -> Result<Vec<&'m Scenario>> {
        let (chosen, strays) = self.choose(matrix)?;
        for stray in strays {
            crate::print::err(&format!("warning: -E: {stray}\n"));
        }
        Ok(chosen)
    }

    /// [`Self::select`], and what of its expressions nothing in `matrix` can match: mistyped names,
    /// most likely, that `!` and `|` would hide.
    ///
    /// # Errors
    /// As there.
    pub fn choose<'m>(&self, matrix: &'m Matrix) -> Result<(Vec<&'m Scenario>, Vec<String>)> {
        let expressions: Vec<Expr> =
            self.expressions.iter().map(|text| parse(text)).collect::<Result<_>>()?;
        let partition = self.partition.as_deref().map(Partition::parse).transpose()?;
        let names = self
            .names
            .iter()
            .map(|name| {
                let matcher = Matcher::glob(name)
                    .map_err(|why| Error::Usage(format!("{name:?} is neither a name nor a glob: {why}")))?;
                if !matrix.scenarios.iter().any(|scenario| matcher.matches_name(scenario)) {
                    return Err(unknown("scenario", name, matrix.scenarios.iter().map(|s| s.name.as_str())));
                }
                Ok(matcher)
            })
            .collect::<Result<Vec<_>>>()?;
        for suite in &self.suites {
            if !matrix.scenarios.iter().any(|scenario| scenario.suite == *suite) {
                return Err(unknown("suite", suite, matrix.suites.keys().map(String::as_str)));
            }
        }
        let mut chosen: Vec<&Scenario> = matrix
            .scenarios
            .iter()
            .filter(|scenario| names.is_empty() || names.iter().any(|name| name.matches_name(scenario)))
            .filter(|scenario| self.suites.is_empty() || self.suites.contains(&scenario.suite))
            .filter(|scenario| {
                expressions.is_empty() || expressions.iter().any(|expr| expr.matches(scenario))
            })
            .collect();
        let mut strays = Vec::new();
        for expression in &expressions {
            expression.strays(matrix, &mut strays);
        }
        if chosen.is_empty() {
            let why = match strays.as_slice() {
                [] => "`meta-lava list` lists them".to_owned(),
                strays => strays.join("; "),
            };
            return Err(Error::NoMatch(format!(
                "none of the {} scenarios matches; {why}",
                matrix.scenarios.len()
            )));
        }
        if let Some(partition) = partition {
            let mut position = 0;
            chosen.retain(|_| {
                position += 1;
                (position - 1) % partition.of == partition.part - 1
            });
        }
        Ok((chosen, strays))
    }
}

fn unknown<'a>(what: &str, found: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let hint = did_you_mean(found, known, "`meta-lava list` lists them");
    Error::NoMatch(format!("no {what} matches {found:?}; {hint}"))
}

/// One part of the chosen scenarios: each `of`-th, beginning with the `part`-th, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Which one.
    pub part: usize,
    /// How many there are.
    pub of: usize,
}

impl Partition {
    /// Reads `slice:M/N`.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is something else.
    pub fn parse(text: &str) -> Result<Self> {
        let numbers = text.strip_prefix("slice:").and_then(|rest| rest.split_once('/'));
        let parsed =
            numbers.and_then(|(part, of)| Some(Self { part: part.parse().ok()?, of: of.parse().ok()? }));
        match parsed {
            Some(partition) if (1..=partition.of).contains(&partition.part) => Ok(partition),
            _ => Err(Error::Usage(format!("--partition {text:?}: expected slice:M/N, with M from 1 to N"))),
        }
    }
}

/// A filter expression, for what is not the command line.
#[derive(Debug, Clone)]
pub struct Filter(Expr);

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// Where it stops to be one, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        whole(text).map(Self).map_err(|Bad { at, message }| {
            let column = text.get(..at).unwrap_or(text).chars().count() + 1;
            format!("column {column} of `{text}`: {message}")
        })
    }

    /// The scenarios of these names.
    #[must_use]
    pub fn names(names: impl IntoIterator<Item = String>) -> Self {
        Self(Expr::Any(names.into_iter().map(|name| Expr::Set(Field::Name, Matcher::Exact(name))).collect()))
    }

    /// Whether `scenario` is meant.
    #[must_use]
    pub fn matches(&self, scenario: &Scenario) -> bool {
        self.0.matches(scenario)
    }
}

/// What a filter expression is made of.
#[derive(Debug, Clone)]
enum Expr {
    All,
    None,
    Set(Field, Matcher),
    Not(Box<Expr>),
    Any(Vec<Expr>),
    /// All of the first kind (`true`) and none of the second.
    Every(Vec<(bool, Expr)>),
}

/// What of a scenario a predicate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Suite,
    Name,
    Type,
    Board,
    Firmware,
    Family,
    Tag,
    With,
}

impl Field {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Suite,
        Self::Name,
        Self::Type,
        Self::Board,
        Self::Firmware,
        Self::Family,
        Self::Tag,
        Self::With,
    ];

    /// The predicate's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Suite => "suite",
            Self::Name => "name",
            Self::Type => "type",
            Self::Board => "board",
            Self::Firmware => "firmware",
            Self::Family => "family",
            Self::Tag => "tag",
            Self::With => "with",
        }
    }

    /// What it looks at in a scenario.
    #[must_use]
    pub fn values(self, scenario: &Scenario) -> Vec<String> {
        let owned = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
        match self {
            Self::Suite => vec![scenario.suite.clone()],
            Self::Name => vec![scenario.name.clone()],
            Self::Type => owned(scenario.device_types()),
            Self::Board => scenario.roles.iter().map(|role| role.board.name.clone()).collect(),
            Self::Firmware => owned(scenario.firmwares()),
            Self::Family => scenario.family.iter().cloned().collect(),
            Self::Tag => scenario.tags.clone(),
            Self::With => scenario.settings(),
        }
    }
}

/// How a predicate matches.
#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    Contains(String),
    Regex(Regex),
    Glob(String, GlobMatcher),
}

impl Matcher {
    fn glob(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text)
            .backslash_escape(true)
            .build()
            .map_err(|error| error.kind().to_string())?
            .compile_matcher();
        Ok(Self::Glob(text.to_owned(), glob))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted,
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Regex(regex) => regex.is_match(text),
            Self::Glob(_, glob) => glob.is_match(text),
        }
    }

    /// The one text that it matches, where there is only one.
    fn literal(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Glob(text, _) if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) => Some(text),
            _ => None,
        }
    }

    /// Names are meant with their suite where there is a slash in the pattern.
    fn matches_name(&self, scenario: &Scenario) -> bool {
        match self {
            Self::Exact(text) | Self::Glob(text, _) if text.contains('/') => self.matches(&scenario.id()),
            _ => self.matches(&scenario.name),
        }
    }
}

impl Expr {
    fn matches(&self, scenario: &Scenario) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Not(expr) => !expr.matches(scenario),
            Self::Any(exprs) => exprs.iter().any(|expr| expr.matches(scenario)),
            Self::Every(exprs) => exprs.iter().all(|(wanted, expr)| expr.matches(scenario) == *wanted),
            Self::Set(Field::Name, matcher) => matcher.matches_name(scenario),
            Self::Set(field, matcher) => field.values(scenario).iter().any(|value| matcher.matches(value)),
        }
    }

    /// Adds a line for each name in it that no scenario has.
    fn strays(&self, matrix: &Matrix, found: &mut Vec<String>) {
        match self {
            Self::All | Self::None => {}
            Self::Not(expr) => expr.strays(matrix, found),
            Self::Any(exprs) => exprs.iter().for_each(|expr| expr.strays(matrix, found)),
            Self::Every(exprs) => exprs.iter().for_each(|(_, expr)| expr.strays(matrix, found)),
            Self::Set(field, matcher) => {
                let Some(text) = matcher.literal() else { return };
                if matrix.scenarios.iter().any(|scenario| self.matches(scenario)) {
                    return;
                }
                let is_id = *field == Field::Name && text.contains('/');
                let known: Vec<String> = if is_id {
                    matrix.scenarios.iter().map(Scenario::id).collect()
                } else {
                    matrix.scenarios.iter().flat_map(|scenario| field.values(scenario)).collect()
                };
                let hint =
                    did_you_mean(text, known.iter().map(String::as_str), "`meta-lava list` lists them");
                let word = field.word();
                let line = format!("no scenario has {word}({text}); {hint}");
                if !found.contains(&line) {
                    found.push(line);
                }
            }
        }
    }
}

type Input<'a> = LocatingSlice<&'a str>;

/// Where an expression stops to be one, in bytes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bad {
    at: usize,
    message: String,
}

impl<'a> ParserError<Input<'a>> for Bad {
    type Inner = Self;

    fn from_input(input: &Input<'a>) -> Self {
        Self { at: input.current_token_start(), message: "unexpected text".into() }
    }

    fn into_inner(self) -> winnow::Result<Self, Self> {
        Ok(self)
    }
}

fn bad<T>(at: usize, message: impl Into<String>) -> ModalResult<T, Bad> {
    Err(ErrMode::Cut(Bad { at, message: message.into() }))
}

/// Parentheses and negations within each other; more is nobody's filter, and would eat the stack.
const DEPTH: usize = 64;

fn parse(text: &str) -> Result<Expr> {
    whole(text).map_err(|Bad { at, message }| {
        let column = text.get(..at).unwrap_or(text).chars().count();
        Error::Usage(format!(
            "-E, column {}: {message}\n  {}\n  {}^",
            column + 1,
            text.replace(['\n', '\t', '\r'], " "),
            " ".repeat(column)
        ))
    })
}

fn whole(text: &str) -> Result<Expr, Bad> {
    let mut input = LocatingSlice::new(text);
    let parsed = or_expr(&mut input, DEPTH).and_then(|expr| {
        spaces(&mut input)?;
        let at = input.current_token_start();
        match input.chars().next() {
            None => Ok(expr),
            Some(')') => bad(at, "this `)` closes nothing"),
            Some(_) => bad(at, "expected `&`, `|`, `-`, `and`, `or` or the end"),
        }
    });
    parsed.map_err(|error| match error {
        ErrMode::Backtrack(bad) | ErrMode::Cut(bad) => bad,
        ErrMode::Incomplete(_) => Bad { at: text.len(), message: "the expression is not complete".into() },
    })
}

fn spaces(input: &mut Input<'_>) -> ModalResult<(), Bad> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

/// A word operator: not the beginning of a longer word.
fn word<'a>(text: &'static str) -> impl Parser<Input<'a>, (), ErrMode<Bad>> {
    move |input: &mut Input<'a>| {
        let found: &str = take_while(1.., char::is_alphanumeric).parse_next(input)?;
        if found == text { Ok(()) } else { Err(ErrMode::Backtrack(Bad::from_input(input))) }
    }
}

fn or_expr(input: &mut Input<'_>, depth: usize) -> ModalResult<Expr, Bad> {
    let mut exprs = vec![and_expr(input, depth)?];
    loop {
        spaces(input)?;
        if opt(alt((("|", opt("|")).void(), '+'.void(), word("or")))).parse_next(input)?.is_none() {
            return Ok(if exprs.len() == 1 { exprs.remove(0) } else { Expr::Any(exprs) });
        }
        exprs.push(and_expr(input, depth)?);
    }
}

fn and_expr(input: &mut Input<'_>, depth: usize) -> ModalResult<Expr, Bad> {
    let mut exprs = vec![(true, unary(input, depth)?)];
    loop {
        spaces(input)?;
        let and = alt((("&", opt("&")).void(), word("and"))).value(true);
        match opt(alt((and, '-'.value(false)))).parse_next(input)? {
            Some(wanted) => exprs.push((wanted, unary(input, depth)?)),
            None if exprs.len() == 1 => return Ok(exprs.remove(0).1),
            None => return Ok(Expr::Every(exprs)),
        }
    }
}

fn unary(input: &mut Input<'_>, depth: usize) -> ModalResult<Expr, Bad> {
    spaces(input)?;
    let at = input.current_token_start();
    let Some(depth) = depth.checked_sub(1) else {
        return bad(at, format!("more than {DEPTH} parentheses and negations within each other"));
    };
    if opt(alt(('!'.void(), word("not")))).parse_next(input)?.is_some() {
        return Ok(Expr::Not(Box::new(unary(input, depth)?)));
    }
    if opt('(').parse_next(input)?.is_some() {
        let expr = or_expr(input, depth)?;
        spaces(input)?;
        return match opt(')').parse_next(input)? {
            Some(_) => Ok(expr),
            None => bad(input.current_token_start(), "expected `)`"),
        };
    }
    predicate(input)
}

const PREDICATES: &str =
    "suite(), name(), type(), board(), firmware(), family(), tag(), with(), all() and none()";

fn predicate(input: &mut Input<'_>) -> ModalResult<Expr, Bad> {
    let at = input.current_token_start();
    let name: &str =
        take_while(0.., |c: char| c.is_alphanumeric() || c == '_' || c == '-').parse_next(input)?;
    let field = match (Field::ALL.into_iter().find(|field| field.word() == name), name) {
        (None, "all" | "none") => None,
        (None, "") => return bad(at, format!("expected one of {PREDICATES}")),
        (None, _) => {
            let known = Field::ALL.map(Field::word).into_iter().chain(["all", "none"]);
            let hint = match nearest(name, known).first() {
                Some(near) => format!("did you mean {near}()? There are"),
                None => "there are".to_owned(),
            };
            return bad(at, format!("there is no predicate `{name}`; {hint} {PREDICATES}"));
        }
        (field, _) => field,
    };
    spaces(input)?;
    if opt('(').parse_next(input)?.is_none() {
        return bad(input.current_token_start(), format!("expected `(` after `{name}`"));
    }
    spaces(input)?;
    let expr = match field {
        Some(field) => Expr::Set(field, matcher(input)?),
        None if name == "all" => Expr::All,
        None => Expr::None,
    };
    spaces(input)?;
    match opt(')').parse_next(input)? {
        Some(_) => Ok(expr),
        None if field.is_none() => bad(input.current_token_start(), format!("`{name}()` takes nothing")),
        None => bad(input.current_token_start(), "expected `)`"),
    }
}

fn matcher(input: &mut Input<'_>) -> ModalResult<Matcher, Bad> {
    let at = input.current_token_start();
    let kind = opt(alt(('=', '~', '/', '#'))).parse_next(input)?;
    if kind == Some('/') {
        let text = until(input, '/', false)?;
        if opt('/').parse_next(input)?.is_none() {
            return bad(at, "the regular expression is not closed by `/`");
        }
        return Regex::new(&text).map(Matcher::Regex).or_else(|error| {
            let why = error.to_string();
            bad(at, format!("no regular expression: {}", why.lines().last().unwrap_or_default().trim()))
        });
    }
    let is_glob = matches!(kind, None | Some('#'));
    let text = until(input, ')', is_glob)?.trim_end().to_owned();
    if text.is_empty() {
        return bad(at, "nothing to match in the parentheses");
    }
    match kind {
        Some('=') => Ok(Matcher::Exact(text)),
        Some('~') => Ok(Matcher::Contains(text)),
        _ => Matcher::glob(&text).or_else(|why| bad(at, format!("no glob: {why}"))),
    }
}

/// Text up to `end`, which a backslash escapes. Other escapes belong to the
/// regular expression or, with `keep`, to the glob; elsewhere a backslash is itself.
fn until(input: &mut Input<'_>, end: char, keep: bool) -> ModalResult<String, Bad> {
    let mut text = String::new();
    while let Some(c) = opt(peek(any)).parse_next(input)? {
        if c == end {
            break;
        }
        input.next_token();
        if c == '\\' {
            match opt(any).parse_next(input)? {
                Some(escaped) if escaped == end && !keep => text.push(escaped),
                Some(escaped) => text.extend(['\\', escaped]),
                None => text.push('\\'),
            }
        } else {
            text.push(c);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::tests::matrix;

    fn names(args: FilterArgs) -> Result<Vec<String>> {
        Ok(args.select(&matrix())?.iter().map(|scenario| scenario.name.clone()).collect())
    }

    fn by(expr: &str) -> String {
        match names(FilterArgs { expressions: vec![expr.into()], ..FilterArgs::default() }) {
            Ok(names) => names.join(" "),
            Err(error) => format!("{:?}: {error}", error.exit()),
        }
    }

    #[test]
    fn each_predicate_looks_at_its_part_of_the_scenario() {
        assert_eq!(by("suite(health-checks)"), "bbb juno");
        assert_eq!(by("name(juno)"), "juno");
        assert_eq!(by("type(beaglebone-black)"), "bbb whole");
        assert_eq!(by("firmware(u-boot)"), "bbb juno whole");
        assert_eq!(by("family(uboot)"), "bbb juno");
        assert_eq!(by("tag(slow)"), "juno");
        assert_eq!(by("all()"), "bbb juno whole");
        assert_eq!(by("none() | name(bbb)"), "bbb");
    }

    #[test]
    fn each_matcher_matches_its_way() {
        assert_eq!(by("name(=bbb)"), "bbb");
        assert_eq!(by("name(~b)"), "bbb");
        assert_eq!(by("name(/^(bbb|juno)$/)"), "bbb juno");
        assert_eq!(by("name({juno,wh*})"), "juno whole");
        assert_eq!(by("name(#b?b)"), "bbb");
        assert_eq!(by("name(health-checks/*)"), "bbb juno");
    }

    #[test]
    fn operators_bind_as_in_nextest() {
        assert_eq!(by("name(whole) or suite(health-checks) and tag(slow)"), "juno whole");
        assert_eq!(by("(name(whole) | suite(health-checks)) & tag(slow)"), "juno");
        assert_eq!(by("suite(health-checks) - tag(slow)"), "bbb");
        assert_eq!(by("not tag(slow)&!name(whole)"), "bbb");
    }

    #[test]
    fn an_error_points_at_its_column() {
        insta::assert_snapshot!(by("suite(x) & nam(y)"), @r"
        Usage: -E, column 12: there is no predicate `nam`; did you mean name()? There are suite(), name(), type(), board(), firmware(), family(), tag(), with(), all() and none()
          suite(x) & nam(y)
                     ^
        ");
        for (expr, column) in [
            ("", 1),
            ("all(", 5),
            ("all()  all()", 8),
            ("(all()", 7),
            ("all())", 6),
            ("name(/(/)", 6),
            ("name(/x)", 6),
            ("name([)", 6),
            ("name()", 6),
            ("name", 5),
            ("é & all()", 1),
            ("all() &", 8),
            ("all(x)", 5),
        ] {
            let error = by(expr);
            assert!(error.starts_with(&format!("Usage: -E, column {column}:")), "{expr}: {error}");
        }
    }

    #[test]
    fn a_name_that_no_scenario_has_is_told_with_the_nearest() {
        assert!(by("firmware(u-bot)").ends_with("no scenario has firmware(u-bot); did you mean u-boot?"));
        assert!(by("name(=health-checks/jnuo)").contains("did you mean health-checks/juno"));
        assert!(by("tag(x)").ends_with("no scenario has tag(x); there is slow"));
        // Where others match it is told all the same.
        let strays = |expr: &str| {
            let args = FilterArgs { expressions: vec![expr.into()], ..FilterArgs::default() };
            args.choose(&matrix()).unwrap().1
        };
        assert_eq!(strays("!type(=jnuo)"), ["no scenario has type(jnuo); did you mean juno?"]);
        assert_eq!(strays("suite(lab) | name(jun)").len(), 1);
        // What may match nothing on purpose.
        assert!(strays("!name(~x) & !name(x*) - name(/x/)").is_empty());
        assert!(by("frimware(x)").contains("did you mean firmware()?"));
    }

    #[test]
    fn a_suite_that_there_is_not_is_told_with_the_nearest() {
        let suite = |name: &str| {
            let args = FilterArgs { suites: vec![name.into()], ..FilterArgs::default() };
            names(args).unwrap_err().to_string()
        };
        assert!(suite("helth-check").ends_with("did you mean health-checks?"));
        assert!(suite("x").ends_with("there is health-checks, lab"), "{}", suite("x"));
    }

    #[test]
    fn nothing_matched_is_its_own_error() {
        assert!(by("name(nobody)").starts_with("NoMatch: none of the 3 scenarios matches"));
        let names = |name: &str| names(FilterArgs { names: vec![name.into()], ..FilterArgs::default() });
        assert_eq!(names("b*").unwrap(), ["bbb"]);
        assert_eq!(names("health-checks/juno").unwrap(), ["juno"]);
        let error = names("jun0").unwrap_err();
        assert!(matches!(error, Error::NoMatch(_)), "{error}");
        assert!(error.to_string().contains("did you mean juno?"), "{error}");
    }

    #[test]
    fn what_was_given_together_has_to_match_together_and_several_expressions_are_alternatives() {
        let args = FilterArgs {
            expressions: vec!["name(bbb)".into(), "name(whole)".into()],
            suites: vec!["health-checks".into()],
            ..FilterArgs::default()
        };
        assert_eq!(names(args).unwrap(), ["bbb"]);
    }

    #[test]
    fn partitions_are_disjoint_and_together_everything() {
        let part = |text: &str| names(FilterArgs { partition: Some(text.into()), ..FilterArgs::default() });
        assert_eq!(part("slice:1/2").unwrap(), ["bbb", "whole"]);
        assert_eq!(part("slice:2/2").unwrap(), ["juno"]);
        assert_eq!(part("slice:4/4").unwrap(), [""; 0]);
        for text in ["slice:0/2", "slice:3/2", "1/2", "slice:a/b", "slice:1/0"] {
            assert!(matches!(part(text), Err(Error::Usage(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_expression_or_an_error_that_points_into_it(text in "\\PC*") {
            if let Err(bad) = whole(&text) {
                prop_assert!(bad.at <= text.len());
                prop_assert!(text.is_char_boundary(bad.at));
            }
        }

        #[test]
        fn anything_made_of_the_grammars_pieces_ends(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "(", ")", "!", "&", "|", "-", "not ", "and ", "or ", "all()", "name(x)", "name(/", "/)", "~", "\\",
                ]),
                0..200,
            )
        ) {
            let _ = whole(&pieces.concat());
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(whole(&"(".repeat(100_000)).is_err());
        assert!(whole(&"!".repeat(100_000)).is_err());
        assert!(whole(&format!("all(){}", " | all()".repeat(10_000))).is_ok());
    }
}
