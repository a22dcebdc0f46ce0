//! A snapshot before it is text: its lines, and what of them a board's console may show.

/// Something that a board's console may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A line of it.
    Printed(String),
    /// What was typed, which the board echoes behind a prompt.
    Typed(String),
    /// A test case, which LAVA's test shell names in a signal.
    Case(String),
}

/// A line of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it says.
    pub text: String,
    /// What of it a console may show.
    pub seen: Option<Seen>,
}

impl From<String> for Row {
    fn from(text: String) -> Self {
        Self { text, seen: None }
    }
}

/// The lines of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    /// Another line.
    pub fn push(&mut self, text: impl Into<String>) {
        self.0.push(text.into().into());
    }

    /// Another line, of which a console may show something.
    pub fn push_seen(&mut self, text: String, seen: Seen) {
        self.0.push(Row { text, seen: Some(seen) });
    }

    /// The snapshot's text.
    #[must_use]
    pub fn text(&self) -> String {
        let lines: Vec<&str> = self.0.iter().map(|row| row.text.as_str()).collect();
        lines.join("\n").trim_end().to_owned()
    }
}
