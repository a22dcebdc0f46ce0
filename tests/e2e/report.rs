//! The report that a run wrote, read as other tools read it.

use std::path::Path;

use quick_xml::events::Event;
use serde_json::Value;

use crate::repository::Repository;
use crate::tool::files_below;

/// `run.json`, once the other two reports were found to be whole.
pub struct Report(Value);

impl Report {
    /// The report of the last run.
    #[track_caller]
    pub fn of(repository: &Repository) -> Self {
        let folder = repository.report();
        let read = |name: &str| {
            std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        assert!(read("index.html").trim_end().ends_with("</html>"));
        assert!(read("junit.xml").trim_end().ends_with("</testsuites>"));
        let junit = read("junit.xml");
        let mut xml = quick_xml::Reader::from_str(&junit);
        while !matches!(xml.read_event().unwrap(), Event::Eof) {}
        Self(serde_json::from_str(&read("run.json")).unwrap())
    }

    /// The verdict on a scenario.
    #[track_caller]
    pub fn verdict(&self, scenario: &str) -> &str {
        self.entry(scenario)["verdict"].as_str().unwrap()
    }

    /// How long a scenario took, in seconds.
    #[track_caller]
    pub fn seconds(&self, scenario: &str) -> f64 {
        self.entry(scenario)["seconds"].as_f64().unwrap()
    }

    /// How many scenarios have a verdict.
    pub fn total(&self, verdict: &str) -> u64 {
        self.0["totals"][verdict].as_u64().unwrap()
    }

    /// All that it has of a scenario.
    #[track_caller]
    pub fn entry(&self, scenario: &str) -> &serde_json::Value {
        let scenarios = self.0["scenarios"].as_array().unwrap();
        let found = scenarios.iter().find(|found| found["name"] == scenario);
        found.unwrap_or_else(|| panic!("{scenario} is not in the report"))
    }

    /// All verdicts.
    pub fn verdicts(&self) -> Vec<&str> {
        let scenarios = self.0["scenarios"].as_array().unwrap();
        scenarios.iter().map(|found| found["verdict"].as_str().unwrap()).collect()
    }
}

/// A file of a scenario in the report.
pub fn of_scenario(repository: &Repository, scenario: &str, file: &str) -> String {
    let path = repository.report().join(Path::new("scenarios/health-checks").join(scenario).join(file));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Nothing in the report, but for what it keeps as it came, is obeyed by a terminal or an
/// editor that shows it; and the page has none of `markup` as markup, though it shows it.
#[track_caller]
pub fn assert_harmless(repository: &Repository, markup: &[&str]) {
    let folder = repository.report();
    for file in files_below(&folder) {
        if file.components().any(|part| part.as_os_str() == "raw") {
            continue;
        }
        let bytes = std::fs::read(folder.join(&file)).unwrap();
        let text = String::from_utf8(bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_obeys_nothing(&file.display().to_string(), &text);
    }
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    for markup in markup {
        assert!(!page.contains(markup), "{markup} is in the page");
        let shown = markup.replace('<', "&lt;").replace('>', "&gt;").replace('/', "&#x2f;");
        assert!(page.contains(&shown), "the page does not show {markup}");
    }
}

/// There is nothing in `text` that a terminal would act on.
#[track_caller]
pub fn assert_obeys_nothing(whose: &str, text: &str) {
    let bad = |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{feff}');
    let found = text.char_indices().find(|(_, c)| bad(c));
    if let Some((at, c)) = found {
        let before: String =
            text[..at].chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
        panic!("{whose} has {c:?} behind {before:?}");
    }
}
