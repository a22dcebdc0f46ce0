//! The report that a run wrote, read as other tools read it.

use std::path::Path;

use serde_json::Value;

use crate::repository::Repository;

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
        Self(serde_json::from_str(&read("run.json")).unwrap())
    }

    /// The verdict on a scenario.
    #[track_caller]
    pub fn verdict(&self, scenario: &str) -> &str {
        let scenarios = self.0["scenarios"].as_array().unwrap();
        let found = scenarios.iter().find(|found| found["name"] == scenario);
        found.unwrap_or_else(|| panic!("{scenario} is not in the report"))["verdict"].as_str().unwrap()
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
