//! What a review asks: each cause once, whoever it concerns, and what becomes of the
//! answers.

use std::collections::BTreeMap;

use crate::event::Cause;
use crate::judge::change::{Change, Names, apply, changes};
use crate::judge::snapshot::Kind;

/// A text that was found where another is expected.
#[derive(Debug, Clone)]
pub struct Text {
    /// `results`, `ledger` or `log`.
    pub snapshot: &'static str,
    /// What is expected; `None` where nothing is yet.
    pub expected: Option<String>,
    /// What was found.
    pub found: String,
    /// The scenario's own names.
    pub names: Names,
}

/// What is answered with one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the places have in common; `None` where nothing is expected yet of a text, which
    /// is a question of its own.
    pub cause: Option<Cause>,
    /// The texts that it concerns, by their place in the list, and the changes in each.
    pub places: Vec<(usize, Vec<usize>)>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It becomes what is expected.
    Accept,
    /// It is forgotten.
    Reject,
}

/// What becomes of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// What is expected from now on, if that changes.
    pub expected: Option<String>,
    /// What is still to be answered: the text found, without what was rejected.
    pub pending: Option<String>,
}

/// All that differs, and what there is to ask about it.
#[derive(Debug)]
pub struct Questions {
    texts: Vec<Text>,
    changes: Vec<Vec<Change>>,
    answers: Vec<Vec<Option<Answer>>>,
    list: Vec<Question>,
}

impl Questions {
    /// Of `texts`: causes of most texts first, then what nothing is expected of yet.
    #[must_use]
    pub fn new(texts: Vec<Text>) -> Self {
        let changes: Vec<Vec<Change>> = texts
            .iter()
            .map(|text| match &text.expected {
                Some(expected) => changes(text.snapshot, expected, &text.found, &text.names),
                None => Vec::new(),
            })
            .collect();
        let mut causes: BTreeMap<&Cause, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for (text, changes) in changes.iter().enumerate() {
            for (number, change) in changes.iter().enumerate() {
                causes.entry(&change.cause).or_default().entry(text).or_default().push(number);
            }
        }
        let mut list: Vec<Question> = causes
            .into_iter()
            .map(|(cause, places)| Question {
                cause: Some(cause.clone()),
                places: places.into_iter().collect(),
            })
            .collect();
        // Of as many texts results before ledgers before logs; stable: the order of causes, else.
        let rank = |question: &Question| {
            let snapshot = question.cause.as_ref().map(|cause| cause.snapshot.as_str());
            Kind::ALL.into_iter().position(|kind| Some(kind.name()) == snapshot)
        };
        list.sort_by_key(|question| (std::cmp::Reverse(question.places.len()), rank(question)));
        let new = texts.iter().enumerate().filter(|(_, text)| text.expected.is_none());
        list.extend(new.map(|(text, _)| Question { cause: None, places: vec![(text, Vec::new())] }));
        // A text of which nothing is expected is one thing to answer.
        let answers = texts
            .iter()
            .zip(&changes)
            .map(|(text, changes)| vec![None; if text.expected.is_none() { 1 } else { changes.len() }])
            .collect();
        Self { texts, changes, answers, list }
    }

    /// The questions, in the order in which they are asked.
    #[must_use]
    pub fn list(&self) -> &[Question] {
        &self.list
    }

    /// What is expected of a text now, and what of it this question would make of it.
    #[must_use]
    pub fn shown(&self, question: &Question, text: usize) -> (String, String) {
        let Text { expected, found, .. } = &self.texts[text];
        let Some(expected) = expected else { return (String::new(), found.clone()) };
        let mine = question.places.iter().find(|(place, _)| *place == text);
        let taken = |number| mine.is_some_and(|(_, numbers)| numbers.contains(&number));
        (expected.clone(), apply(expected, found, &self.changes[text], taken))
    }

    /// How many places a question concerns, all texts together.
    #[must_use]
    pub fn times(question: &Question) -> usize {
        question.places.iter().map(|(_, changes)| changes.len().max(1)).sum()
    }

    /// Gives the answer to the question at `number`.
    pub fn answer(&mut self, number: usize, answer: Answer) {
        for (text, changes) in &self.list[number].places {
            let answers = &mut self.answers[*text];
            if changes.is_empty() {
                answers.fill(Some(answer));
            }
            for change in changes {
                answers[*change] = Some(answer);
            }
        }
    }

    /// What becomes of each text, in their order; `None` where nothing was answered.
    #[must_use]
    pub fn decisions(&self) -> Vec<Option<Decision>> {
        self.texts.iter().enumerate().map(|(at, text)| self.decision(at, text)).collect()
    }

    fn decision(&self, at: usize, text: &Text) -> Option<Decision> {
        let (answers, changes) = (&self.answers[at], &self.changes[at]);
        if !answers.is_empty() && answers.iter().all(Option::is_none) {
            return None;
        }
        let Some(expected) = &text.expected else {
            let accepted = answers.contains(&Some(Answer::Accept));
            return Some(Decision { expected: accepted.then(|| text.found.clone()), pending: None });
        };
        let taken = |number: usize| answers[number] == Some(Answer::Accept);
        let stays = |number: usize| answers[number] != Some(Answer::Reject);
        Some(Decision {
            expected: answers
                .contains(&Some(Answer::Accept))
                .then(|| apply(expected, &text.found, changes, taken)),
            pending: answers.contains(&None).then(|| apply(expected, &text.found, changes, stays)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(expected: Option<&str>, found: &str) -> Text {
        Text {
            snapshot: "log",
            expected: expected.map(str::to_owned),
            found: found.to_owned(),
            names: Names::default(),
        }
    }

    fn three() -> Questions {
        Questions::new(vec![
            text(Some("a prompt string b\nsame"), "a prompt list b\nsame\nmore"),
            text(Some("x prompt string y"), "x prompt list y"),
            text(None, "all new"),
        ])
    }

    fn decision(expected: Option<&str>, pending: Option<&str>) -> Option<Decision> {
        Some(Decision { expected: expected.map(str::to_owned), pending: pending.map(str::to_owned) })
    }

    #[test]
    fn a_cause_that_concerns_two_texts_is_one_question_and_one_answer() {
        let mut questions = three();
        let concerns: Vec<usize> = questions.list().iter().map(|one| one.places.len()).collect();
        assert_eq!(concerns, [2, 1, 1]);
        questions.answer(0, Answer::Accept);
        assert_eq!(
            questions.decisions(),
            [
                decision(Some("a prompt list b\nsame"), Some("a prompt list b\nsame\nmore")),
                decision(Some("x prompt list y"), None),
                None,
            ]
        );
    }

    #[test]
    fn results_are_asked_about_before_ledgers_and_logs() {
        let text = |snapshot| Text {
            snapshot,
            expected: Some("old\n".into()),
            found: "new\n".into(),
            names: Names::default(),
        };
        let questions = Questions::new(["ledger", "log", "results"].map(text).into());
        let order: Vec<&str> =
            questions.list().iter().map(|one| one.cause.as_ref().unwrap().snapshot.as_str()).collect();
        assert_eq!(order, ["results", "ledger", "log"]);
    }

    #[test]
    fn what_is_rejected_is_forgotten_and_what_has_no_answer_stays() {
        let mut questions = three();
        questions.answer(0, Answer::Reject);
        questions.answer(2, Answer::Accept);
        assert_eq!(
            questions.decisions(),
            [
                decision(None, Some("a prompt string b\nsame\nmore")),
                decision(None, None),
                decision(Some("all new"), None),
            ]
        );
    }

    #[test]
    fn a_question_shows_its_own_places_and_no_others() {
        let questions = three();
        let (expected, shown) = questions.shown(&questions.list()[0], 0);
        assert_eq!((expected.as_str(), shown.as_str()), ("a prompt string b\nsame", "a prompt list b\nsame"));
        assert_eq!(questions.shown(&questions.list()[2], 2), (String::new(), "all new".to_owned()));
    }

    proptest! {
        #[test]
        fn with_every_question_accepted_all_that_was_found_is_expected(
            pairs in prop::collection::vec(("[ab\n]{0,8}", "[ab\n]{0,8}"), 1..4)
        ) {
            let texts = pairs.iter().map(|(expected, found)| text(Some(expected), found)).collect();
            let mut questions = Questions::new(texts);
            for number in 0..questions.list().len() {
                questions.answer(number, Answer::Accept);
            }
            for (decision, (expected, found)) in questions.decisions().into_iter().zip(&pairs) {
                let lines = |text: &str| text.lines().collect::<Vec<_>>().join("\n");
                let is = decision.unwrap_or_default();
                prop_assert_eq!(is.pending, None);
                prop_assert_eq!(is.expected.unwrap_or_else(|| lines(expected)), lines(found));
            }
        }
    }
}
