//! What LAVA announced of a job and its devices, and what of that has an order.
//!
//! Each event carries the time at which its sender made it (`send_event` in
//! `lava_scheduler_app/signals.py`). The senders are several: a view announces `Submitted`, the
//! scheduler `Reserved` and `Scheduled`, the views for workers `Running`, `Idle` and `Finished`,
//! each in whichever process and thread of gunicorn answers. Every one has a socket of its own
//! into the publisher's queue, so in which order they come is nobody's promise. In which order
//! they are made is one: an event is made before its transaction is over, and what comes next
//! in a job's life begins by reading what that transaction wrote. LAVA's server programs run
//! on one machine, so the times are of one clock.
//!
//! None is lost on the way while the stream holds: a PUSH socket queues what is sent
//! before its connection is there.

use std::sync::Arc;

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::lava::events::{DeviceEvent, JobEvent, Subject, Told};
use crate::lava::words::{DeviceState, JobState};

/// Most events of a job and its devices that are kept; a job has 7, or a few more.
const MOST: usize = 1000;
/// Most bytes that they take.
const LARGEST: usize = 4 << 20;

/// What LAVA announced of a job and its devices.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Announced {
    /// The devices that were listened for.
    pub devices: Vec<String>,
    /// Why the stream broke off, if it did, so that something may be missing.
    pub gap: Option<String>,
    /// Whether there was more than is kept.
    pub cut: bool,
    told: Vec<Arc<Told>>,
    bytes: usize,
}

impl Announced {
    /// Nothing yet of a job on `devices`.
    #[must_use]
    pub fn of(devices: &[&str]) -> Self {
        Self { devices: devices.iter().map(|device| (*device).to_owned()).collect(), ..Self::default() }
    }

    /// Takes down what was told, if it is of job `id` or of one of the devices.
    pub fn take(&mut self, id: &str, told: &Arc<Told>) {
        let concerns = match &told.subject {
            Subject::Job(event) => event.job == id,
            Subject::Device(event) => self.devices.contains(&event.device),
            Subject::Worker(_) => false,
        };
        if !concerns {
            return;
        }
        self.bytes = self.bytes.saturating_add(told.body.to_string().len());
        if self.told.len() < MOST && self.bytes <= LARGEST {
            self.told.push(Arc::clone(told));
        } else {
            self.cut = true;
        }
    }

    /// What was told of job `id`, in the order in which LAVA made it.
    #[must_use]
    pub fn job(&self, id: &str) -> Vec<&JobEvent> {
        let of_job = |told: &'_ Told| matches!(&told.subject, Subject::Job(event) if event.job == id);
        self.in_order()
            .into_iter()
            .filter(|told| of_job(told))
            .filter_map(|told| match &told.subject {
                Subject::Job(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    /// What was told of `device` that is of job `id`, in the order in which LAVA made it.
    ///
    /// A device's event names the job on it, except for the one that it is reserved by: that
    /// is made before the job has its device. So one that names no job is of the job which
    /// was submitted before and had not finished.
    #[must_use]
    pub fn device(&self, id: &str, device: &str) -> Vec<&DeviceEvent> {
        let sub_ids: Vec<&str> = self.job(id).iter().filter_map(|event| event.sub_id.as_deref()).collect();
        let mut events = Vec::new();
        let mut runs = false;
        for told in self.in_order() {
            match &told.subject {
                Subject::Job(event) if event.job == id => runs = event.state != JobState::Finished,
                Subject::Device(event) if event.device == device => {
                    let of_job = match event.job.as_deref() {
                        Some(job) => job == id || sub_ids.contains(&job),
                        None => runs,
                    };
                    if of_job {
                        events.push(event);
                    }
                }
                _ => {}
            }
        }
        events
    }

    /// Whether all is there that LAVA announces of a job that runs and finishes.
    #[must_use]
    pub fn whole(&self, id: &str) -> bool {
        let job = self.job(id);
        let has = |state: &JobState| job.iter().any(|event| event.state == *state);
        [JobState::Submitted, JobState::Scheduled, JobState::Running, JobState::Finished].iter().all(has)
            && self.devices.iter().all(|device| {
                let events = self.device(id, device);
                let has = |state: &DeviceState| events.iter().any(|event| event.state == *state);
                [DeviceState::Reserved, DeviceState::Running, DeviceState::Idle].iter().all(has)
            })
    }

    /// All that was told, one JSON value a line, in the order in which it came.
    #[must_use]
    pub fn lines(&self) -> String {
        let line = |told: &Arc<Told>| {
            let received = told.received.to_rfc3339_opts(SecondsFormat::Micros, true);
            let sent = told.sent.map(|sent| sent.and_utc().to_rfc3339_opts(SecondsFormat::Micros, true));
            let line = json!({
                "received": received,
                "sent": sent,
                "sender": sender(&told.uuid),
                "topic": told.topic,
                "user": told.user,
                "body": told.body,
            });
            format!("{line}\n")
        };
        let mut lines: String = self.told.iter().map(line).collect();
        for (key, why) in [("gap", self.gap.clone()), ("cut", self.cut.then(|| "there was more".to_owned()))]
        {
            if let Some(why) = why {
                lines.push_str(&format!("{}\n", Value::from_iter([(key, why)])));
            }
        }
        lines
    }

    /// By the senders' clock, where every one of them told its time; else as they came.
    fn in_order(&self) -> Vec<&Told> {
        let mut told: Vec<&Told> = self.told.iter().map(Arc::as_ref).collect();
        if told.iter().all(|told| told.sent.is_some()) {
            told.sort_by_key(|told| told.sent);
        }
        told
    }
}

/// What a UUID of version 1 tells of who made it: its clock sequence and its node, without
/// the time.
fn sender(uuid: &str) -> Option<&str> {
    let (at, _) = uuid.match_indices('-').nth(2)?;
    uuid.get(at + 1..)
}

#[cfg(test)]
pub mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::lava::events::parse;

    /// `job 12 Running Unknown` or `device bbb-01 Idle Good 12`, made at that time.
    fn told(at: i64, text: &str) -> Arc<Told> {
        let words: Vec<&str> = text.split(' ').collect();
        let body = match words.as_slice() {
            ["job", job, state, health] => json!({"job": job, "state": state, "health": health}),
            ["job", job, state, health, sub_id] => {
                json!({"job": job, "state": state, "health": health, "sub_id": sub_id})
            }
            ["device", device, state, health] => json!({"device": device, "state": state, "health": health}),
            ["device", device, state, health, job] => {
                json!({"device": device, "state": state, "health": health, "job": job})
            }
            _ => panic!("{text}"),
        };
        let topic = if words[0] == "job" { "x.testjob" } else { "x.device" };
        let sent = DateTime::from_timestamp(1_790_000_000 + at, 0).unwrap().naive_utc();
        let sent = sent.format("%FT%T").to_string();
        let uuid = "a8098c1a-f86e-11da-bd1a-00112444be1e";
        let message = serde_json::to_string(&[topic, uuid, &sent, "lavaserver", &body.to_string()]).unwrap();
        Arc::new(parse(&message, DateTime::UNIX_EPOCH).unwrap())
    }

    /// What was told of job `id`, as it came: when each was made, and what it says.
    pub fn announced(id: &str, devices: &[&str], events: &[(i64, &str)]) -> Announced {
        let mut announced = Announced::of(devices);
        for (at, text) in events {
            announced.take(id, &told(*at, text));
        }
        announced
    }

    fn of_job(announced: &Announced, id: &str) -> String {
        let states: Vec<&str> = announced.job(id).iter().map(|event| event.state.word()).collect();
        states.join(" ")
    }

    fn of_device(announced: &Announced, id: &str, device: &str) -> String {
        let states: Vec<&str> = announced.device(id, device).iter().map(|event| event.state.word()).collect();
        states.join(" ")
    }

    /// A job's life, as LAVA makes its events.
    const LIFE: [(i64, &str); 7] = [
        (1, "job 12 Submitted Unknown"),
        (2, "device bbb-01 Reserved Good"),
        (3, "job 12 Scheduled Unknown"),
        (4, "device bbb-01 Running Good 12"),
        (5, "job 12 Running Unknown"),
        (6, "device bbb-01 Idle Good 12"),
        (7, "job 12 Finished Complete"),
    ];

    proptest! {
        #[test]
        fn events_are_the_same_in_whatever_order_they_come(events in Just(LIFE.to_vec()).prop_shuffle()) {
            let announced = announced("12", &["bbb-01"], &events);
            prop_assert_eq!(of_job(&announced, "12"), "Submitted Scheduled Running Finished");
            prop_assert_eq!(of_device(&announced, "12", "bbb-01"), "Reserved Running Idle");
            prop_assert!(announced.whole("12"));
        }

        #[test]
        fn an_event_that_is_not_there_is_missed(
            events in Just(LIFE.to_vec()).prop_shuffle(),
            missing in 0..LIFE.len(),
        ) {
            let events: Vec<(i64, &str)> =
                events.into_iter().filter(|event| *event != LIFE[missing]).collect();
            let announced = announced("12", &["bbb-01"], &events);
            prop_assert!(!announced.whole("12"));
            let all = format!("{} {}", of_job(&announced, "12"), of_device(&announced, "12", "bbb-01"));
            prop_assert!(all.split(' ').count() < LIFE.len());
        }
    }

    #[test]
    fn events_that_are_made_in_another_order_differ() {
        let announced = announced(
            "12",
            &["bbb-01"],
            &[
                (1, "job 12 Submitted Unknown"),
                (3, "job 12 Scheduled Unknown"),
                (2, "job 12 Running Unknown"),
            ],
        );
        assert_eq!(of_job(&announced, "12"), "Submitted Running Scheduled");
    }

    #[test]
    fn an_event_that_is_sent_twice_is_there_twice() {
        let mut events = LIFE.to_vec();
        events.push((7, "job 12 Finished Complete"));
        let announced = announced("12", &["bbb-01"], &events);
        assert_eq!(of_job(&announced, "12"), "Submitted Scheduled Running Finished Finished");
    }

    #[test]
    fn a_devices_event_is_of_the_job_that_it_names() {
        let mut events = vec![
            (-3, "device bbb-01 Idle Unknown 11"),
            // An administrator's.
            (-2, "device bbb-01 Idle Good"),
            (8, "device bbb-01 Idle Bad"),
            (8, "device bbb-01 Reserved Good 13"),
            (4, "device bbb-02 Idle Good 12"),
        ];
        events.extend(LIFE);
        let announced = announced("12", &["bbb-01"], &events);
        assert_eq!(of_device(&announced, "12", "bbb-01"), "Reserved Running Idle");
        assert_eq!(of_device(&announced, "12", "bbb-02"), "");
    }

    #[test]
    fn a_device_of_a_multinode_job_names_it_by_its_sub_id() {
        let announced = announced(
            "12",
            &["bbb-01"],
            &[
                (1, "job 12 Submitted Unknown 12.0"),
                (2, "device bbb-01 Running Good 12.0"),
                (3, "device bbb-01 Running Good 12.1"),
            ],
        );
        assert_eq!(of_device(&announced, "12", "bbb-01"), "Running");
    }

    #[test]
    fn what_was_told_is_kept_with_its_times_and_its_sender() {
        let mut announced =
            announced("12", &[], &[(1, "job 12 Submitted Unknown"), (1, "job 13 Submitted Unknown")]);
        announced.gap = Some("closed".into());
        insta::assert_snapshot!(announced.lines(), @r#"
        {"body":{"health":"Unknown","job":"12","state":"Submitted"},"received":"1970-01-01T00:00:00.000000Z","sender":"bd1a-00112444be1e","sent":"2026-09-21T14:13:21.000000Z","topic":"x.testjob","user":"lavaserver"}
        {"gap":"closed"}
        "#);
    }

    #[test]
    fn a_job_of_which_lava_never_stops_to_tell_is_cut() {
        let mut announced = Announced::of(&[]);
        let told = told(1, "job 12 Running Unknown");
        for _ in 0..=MOST {
            announced.take("12", &told);
        }
        assert!(announced.cut);
        assert_eq!(announced.job("12").len(), MOST);
        assert!(announced.lines().ends_with("{\"cut\":\"there was more\"}\n"));
    }
}
