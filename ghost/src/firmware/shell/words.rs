//! The command language that U-Boot, barebox and GRUB share at heart: words,
//! quotes, variables, and `;`, `&&`, `||` between statements.
//!
//! Crates that parse shells either know no variables and no separators
//! (`shlex`) or are whole POSIX shells whose grammar these firmwares do not have.

/// What stands between a statement and the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// `;` or the end: the next runs anyway.
    Always,
    /// `&&`: the next runs when this succeeded.
    And,
    /// `||`: the next runs when this failed.
    Or,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A variable, and whether it stood in double quotes (then it is never split).
    Variable(String, bool),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    pieces: Vec<Piece>,
    /// Quotes make a word even where there is nothing in them.
    quoted: bool,
}

/// One command of a line with its arguments, variables not yet replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    words: Vec<Word>,
    /// What follows it.
    pub joint: Joint,
}

/// Why a line can't be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A quote or brace that never closes.
    #[error("unterminated {0}")]
    Unterminated(char),
}

impl Statement {
    /// A statement of words that mean what they say.
    pub fn literal<'w>(words: impl IntoIterator<Item = &'w str>, joint: Joint) -> Self {
        let word = |text: &str| Word { pieces: vec![Piece::Text(text.to_owned())], quoted: true };
        Self { words: words.into_iter().map(word).collect(), joint }
    }

    /// Its words, variables replaced. An unquoted variable is split at blanks.
    pub fn expand(&self, lookup: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut out = Vec::new();
        for word in &self.words {
            let mut current = String::new();
            let mut any = word.quoted;
            for piece in &word.pieces {
                match piece {
                    Piece::Text(text) => {
                        current.push_str(text);
                        any = true;
                    }
                    Piece::Variable(name, true) => current.push_str(&lookup(name).unwrap_or_default()),
                    Piece::Variable(name, false) => {
                        let value = lookup(name).unwrap_or_default();
                        if value.starts_with(char::is_whitespace) && any {
                            out.push(std::mem::take(&mut current));
                            any = false;
                        }
                        let mut parts = value.split_whitespace().peekable();
                        while let Some(part) = parts.next() {
                            current.push_str(part);
                            any = true;
                            if parts.peek().is_some() || value.ends_with(char::is_whitespace) {
                                out.push(std::mem::take(&mut current));
                                any = false;
                            }
                        }
                    }
                }
            }
            if any {
                out.push(current);
            }
        }
        out
    }
}

/// Takes a line apart.
///
/// # Errors
/// When a quote or a brace never closes.
pub fn parse(line: &str) -> Result<Vec<Statement>, SyntaxError> {
    let mut statements = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut word = Word::default();
    let mut chars = line.chars().peekable();

    let end_word = |word: &mut Word, words: &mut Vec<Word>| {
        if word.quoted || !word.pieces.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let text = until(&mut chars, '\'').ok_or(SyntaxError::Unterminated('\''))?;
                word.quoted = true;
                push_text(&mut word, &text);
            }
            '"' => {
                word.quoted = true;
                loop {
                    match chars.next().ok_or(SyntaxError::Unterminated('"'))? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(SyntaxError::Unterminated('"'))? {
                            c @ ('"' | '\\' | '$') => push_text(&mut word, c.encode_utf8(&mut [0; 4])),
                            c => push_text(&mut word, &format!("\\{c}")),
                        },
                        '$' => variable(&mut chars, &mut word, true)?,
                        c => push_text(&mut word, c.encode_utf8(&mut [0; 4])),
                    }
                }
            }
            '\\' => {
                if let Some(c) = chars.next() {
                    push_text(&mut word, c.encode_utf8(&mut [0; 4]));
                }
            }
            '$' => variable(&mut chars, &mut word, false)?,
            '#' if word == Word::default() => break,
            ';' | '\n' => {
                end_word(&mut word, &mut words);
                finish(&mut statements, &mut words, Joint::Always);
            }
            '&' | '|' if chars.peek() == Some(&c) => {
                chars.next();
                end_word(&mut word, &mut words);
                finish(&mut statements, &mut words, if c == '&' { Joint::And } else { Joint::Or });
            }
            c if c.is_whitespace() => end_word(&mut word, &mut words),
            c => push_text(&mut word, c.encode_utf8(&mut [0; 4])),
        }
    }
    end_word(&mut word, &mut words);
    finish(&mut statements, &mut words, Joint::Always);
    Ok(statements)
}

fn finish(statements: &mut Vec<Statement>, words: &mut Vec<Word>, joint: Joint) {
    if !words.is_empty() {
        statements.push(Statement { words: std::mem::take(words), joint });
    }
}

fn push_text(word: &mut Word, text: &str) {
    match word.pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => word.pieces.push(Piece::Text(text.to_owned())),
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn until(chars: &mut Chars<'_>, end: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == end => return Some(text),
            c => text.push(c),
        }
    }
}

fn variable(chars: &mut Chars<'_>, word: &mut Word, quoted: bool) -> Result<(), SyntaxError> {
    let name = if chars.next_if_eq(&'{').is_some() {
        until(chars, '}').ok_or(SyntaxError::Unterminated('{'))?
    } else {
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    };
    if name.is_empty() {
        push_text(word, "$");
    } else {
        word.pieces.push(Piece::Variable(name, quoted));
    }
    Ok(())
}

/// `0x1f` or `1f`: numbers are hexadecimal, as U-Boot and barebox's addresses are.
#[must_use]
pub fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<Vec<String>> {
        let lookup = |name: &str| match name {
            "filesize" => Some("1f00".to_owned()),
            "list" => Some("a b".to_owned()),
            _ => None,
        };
        parse(line).unwrap().iter().map(|statement| statement.expand(lookup)).collect()
    }

    #[test]
    fn single_quotes_keep_variables_and_separators_as_they_are() {
        assert_eq!(words("setenv x 'run a; echo ${filesize}'"), [["setenv", "x", "run a; echo ${filesize}"]]);
    }

    #[test]
    fn variables_are_replaced_also_in_the_middle_of_a_word() {
        assert_eq!(
            words("bootz 0x82000000 0x88080000:${filesize} $none 0x88000000"),
            [["bootz", "0x82000000", "0x88080000:1f00", "0x88000000"]]
        );
    }

    #[test]
    fn an_unquoted_variable_is_split_and_a_quoted_one_is_not() {
        assert_eq!(words("x${list}y"), [["xa", "by"]]);
        assert_eq!(words("\"x${list}y\""), [["xa by"]]);
        assert_eq!(words("setenv a ''"), [["setenv", "a", ""]]);
    }

    #[test]
    fn separators_tell_when_the_next_command_runs() {
        let joints: Vec<Joint> =
            parse("a && b || c; d").unwrap().iter().map(|statement| statement.joint).collect();
        assert_eq!(joints, [Joint::And, Joint::Or, Joint::Always, Joint::Always]);
    }

    #[test]
    fn a_quote_that_never_closes_is_an_error() {
        assert_eq!(parse("echo 'x"), Err(SyntaxError::Unterminated('\'')));
        assert_eq!(parse("echo ${x"), Err(SyntaxError::Unterminated('{')));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".*") {
            if let Ok(statements) = parse(&line) {
                for statement in statements {
                    statement.expand(|name| Some(format!(" {name} ")));
                }
            }
        }
    }
}
