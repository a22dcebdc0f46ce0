//! LAVA's event stream: the publisher's websocket. The end of a job is learned
//! here; who listens must poll after a [`LavaEvent::Gap`]. A run waits for the stream
//! before its first job: the publisher may come up later than all else.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDateTime, Utc};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::sync::{broadcast, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::words::{DeviceHealth, DeviceState, JobHealth, JobState, WorkerHealth, WorkerState};

/// How many events may wait for a listener that is busy.
const QUEUE: usize = 8192;
/// The largest event taken; real ones are below a kilobyte.
const LARGEST: usize = 1 << 20;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// The pause before a connection is tried again. The publisher of a server that
/// starts is there within a second or two.
const AGAIN: Duration = Duration::from_millis(100);
/// A silent publisher is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(15);

/// What a listener is told.
#[derive(Debug, Clone, PartialEq)]
pub enum LavaEvent {
    /// LAVA announced something.
    Told(Arc<Told>),
    /// The stream began, broke off, or began again, and why: what was meanwhile may
    /// have been missed.
    Gap(String),
}

/// Something that LAVA announced, `[topic, uuid, date, user, json]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// When it came, by this machine's clock.
    pub received: DateTime<Utc>,
    /// When its sender made it, by its own clock, in UTC.
    pub sent: Option<NaiveDateTime>,
    /// Such as `org.lavasoftware.testjob`.
    pub topic: String,
    /// Made of the sender's clock and of a number that the sender drew.
    pub uuid: String,
    /// The job's submitter, or `lavaserver`.
    pub user: String,
    /// The rest, as LAVA wrote it.
    pub body: Value,
    /// What it is about.
    pub subject: Subject,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A job changed.
    Job(JobEvent),
    /// A device changed.
    Device(DeviceEvent),
    /// A worker changed.
    Worker(WorkerEvent),
}

/// A job changed its state or health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// Its number.
    pub job: String,
    /// `12.0`, of a multinode job.
    pub sub_id: Option<String>,
    /// How far it is.
    pub state: JobState,
    /// How it ended.
    pub health: JobHealth,
    /// The device it was given to.
    pub device: Option<String>,
    /// The device-type it asked for.
    pub device_type: Option<String>,
}

/// A device changed its state or health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEvent {
    /// Its host name.
    pub device: String,
    /// Whether it is taken.
    pub state: DeviceState,
    /// Whether it is fit for jobs.
    pub health: DeviceHealth,
    /// The job on it, by its number or its sub-id.
    pub job: Option<String>,
}

/// A worker changed its state or health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEvent {
    /// Its host name.
    pub worker: String,
    /// Whether the server hears of it.
    pub state: WorkerState,
    /// Whether it is meant to work.
    pub health: WorkerHealth,
}

/// The connection: up, or why it is not.
type Link = Result<(), String>;

/// Listens to one publisher, for any number of listeners here; it connects
/// again for as long as it lives. Dropping it ends that.
pub struct Events {
    sender: broadcast::Sender<LavaEvent>,
    link: watch::Receiver<Link>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One listener.
pub struct Listener(broadcast::Receiver<LavaEvent>);

impl Listener {
    /// The next event; [`LavaEvent::Gap`] also when this listener was so slow
    /// that some were lost. Waits for ever once the stream is gone for good.
    pub async fn next(&mut self) -> LavaEvent {
        match self.0.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(lost)) => lagged(lost),
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// The next event, if it is there already.
    pub fn ready(&mut self) -> Option<LavaEvent> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(lost)) => Some(lagged(lost)),
            Err(_) => None,
        }
    }
}

fn lagged(lost: u64) -> LavaEvent {
    LavaEvent::Gap(format!("{lost} events came faster than they were taken"))
}

impl Events {
    /// Starts to listen to the publisher at `url` (`ws://127.0.0.1:32769/ws/`).
    #[must_use]
    pub fn listen(url: String) -> Self {
        let (sender, _) = broadcast::channel(QUEUE);
        let (up, link) = watch::channel(Err("no answer yet".into()));
        let to = sender.clone();
        let task = tokio::spawn(async move {
            loop {
                let why = session(&url, &to, &up).await;
                if up.send_replace(Err(why.clone())).is_ok() {
                    tracing::debug!(url, why, "the event stream broke off");
                    let _ = to.send(LavaEvent::Gap(why));
                }
                // A pause between attempts, not a wait for a condition.
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { sender, link, task }
    }

    /// A listener to all events from now on.
    #[must_use]
    pub fn subscribe(&self) -> Listener {
        Listener(self.sender.subscribe())
    }

    /// Whether the stream is up, or why it is not; while it is not, only polling tells.
    ///
    /// # Errors
    /// Why it is not.
    pub fn link(&self) -> Result<(), String> {
        self.link.borrow().clone()
    }

    /// Waits until the stream is up.
    ///
    /// # Errors
    /// What the last attempt met, when it is not within `deadline`.
    pub async fn wait_up(&self, deadline: Duration) -> Result<(), String> {
        let mut link = self.link.clone();
        if let Ok(Ok(_)) = tokio::time::timeout(deadline, link.wait_for(Result::is_ok)).await {
            return Ok(());
        }
        let why = self.link().err().unwrap_or_default();
        Err(format!("LAVA's event stream was not there within {} s: {why}", deadline.as_secs()))
    }
}

/// One connection, until it breaks; why it did.
async fn session(url: &str, to: &broadcast::Sender<LavaEvent>, up: &watch::Sender<Link>) -> String {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let connect = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
    let mut socket = match tokio::time::timeout(CONNECT, connect).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no answer".into(),
    };
    // In this order: who subscribes once it is up has no gap.
    let _ = to.send(LavaEvent::Gap("it was not there before".into()));
    let _ = up.send_replace(Ok(()));
    let mut asked = false;
    loop {
        let message = match tokio::time::timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(None) => return "closed".into(),
            Err(_) if asked => return "silent".into(),
            Err(_) => {
                asked = true;
                if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                    return error.to_string();
                }
                continue;
            }
        };
        asked = false;
        if let Message::Text(text) = message {
            match parse(text.as_str(), SystemTime::now().into()) {
                Some(told) => {
                    tracing::trace!(?told, "event");
                    let _ = to.send(LavaEvent::Told(Arc::new(told)));
                }
                None => tracing::debug!(bytes = text.len(), "an event that is not understood"),
            }
        }
    }
}

/// What a message says that was `received` then. It comes over the network, so nothing
/// about it is taken for granted; what is not of interest or makes no sense is `None`.
pub(crate) fn parse(text: &str, received: DateTime<Utc>) -> Option<Told> {
    let [topic, uuid, date, user, data]: [String; 5] = serde_json::from_str(text).ok()?;
    let body: Value = serde_json::from_str(&data).ok()?;
    let text = |key: &str| match body.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let subject = match topic.rsplit('.').next()? {
        "testjob" => Subject::Job(JobEvent {
            job: text("job")?,
            sub_id: text("sub_id").filter(|id| !id.is_empty()),
            state: text("state")?.into(),
            health: text("health")?.into(),
            device: text("device"),
            device_type: text("device_type"),
        }),
        "device" => Subject::Device(DeviceEvent {
            device: text("device")?,
            state: text("state")?.into(),
            health: text("health")?.into(),
            job: text("job"),
        }),
        "worker" => Subject::Worker(WorkerEvent {
            worker: text("hostname")?,
            state: text("state")?.into(),
            health: text("health")?.into(),
        }),
        _ => return None,
    };
    // 2023.01 writes no time zone.
    let sent =
        DateTime::parse_from_rfc3339(&date).map(|date| date.naive_utc()).or_else(|_| date.parse()).ok();
    Some(Told { received, sent, topic, uuid, user, body, subject })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &str, data: &str) -> String {
        serde_json::to_string(&[topic, "uuid", "2026-01-01T00:00:00", "lavaserver", data]).unwrap()
    }

    fn parse(text: &str) -> Option<Subject> {
        super::parse(text, DateTime::UNIX_EPOCH).map(|told| told.subject)
    }

    fn job(event: LavaEvent) -> String {
        match event {
            LavaEvent::Told(told) => match &told.subject {
                Subject::Job(event) => event.job.clone(),
                other => panic!("{other:?}"),
            },
            LavaEvent::Gap(why) => panic!("{why}"),
        }
    }

    #[test]
    fn the_time_at_which_an_event_was_sent_is_in_utc_with_and_without_a_zone() {
        let sent = |date: &str| {
            let message = [
                "a.worker",
                "uuid",
                date,
                "lavaserver",
                r#"{"hostname": "w", "state": "Online", "health": "Active"}"#,
            ];
            let told = super::parse(&serde_json::to_string(&message).unwrap(), DateTime::UNIX_EPOCH).unwrap();
            told.sent.map(|sent| sent.to_string())
        };
        assert_eq!(sent("2026-01-01T00:00:00.25").as_deref(), Some("2026-01-01 00:00:00.250"));
        assert_eq!(sent("2026-01-01T01:00:00.25+01:00").as_deref(), Some("2026-01-01 00:00:00.250"));
        assert_eq!(sent("today"), None);
    }

    #[test]
    fn jobs_devices_and_workers_are_understood() {
        let text = message(
            "org.lavasoftware.testjob",
            r#"{"job": 5, "state": "Finished", "health": "Complete", "device": "bbb-01", "x": null}"#,
        );
        let Some(Subject::Job(event)) = parse(&text) else { panic!("{text}") };
        assert_eq!((event.job.as_str(), event.state), ("5", JobState::Finished));
        assert_eq!((event.device.as_deref(), event.sub_id, event.device_type), (Some("bbb-01"), None, None));
        let text = message("x.worker", r#"{"hostname": "worker-1", "state": "Online", "health": "Active"}"#);
        assert!(matches!(parse(&text), Some(Subject::Worker(event)) if event.worker == "worker-1"));
        let text = message("x.device", r#"{"device": "d", "state": "Idle", "health": "Good", "job": "7"}"#);
        assert!(matches!(parse(&text), Some(Subject::Device(event)) if event.job.as_deref() == Some("7")));
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in ["", "{}", "[]", "[1, 2, 3, 4, 5]", "[\"a\", \"b\", \"c\", \"d\", \"e\"]", "\u{0}"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&message("a.testjob", r#"{"job": []}"#)), None);
        assert_eq!(parse(&message("a.event", "{}")), None);
    }

    #[tokio::test]
    async fn a_stream_that_breaks_is_taken_up_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            for number in 1..=2 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                let data = format!(r#"{{"job": {number}, "state": "Running", "health": "Unknown"}}"#);
                socket.send(Message::Text("rubbish".into())).await.unwrap();
                socket.send(Message::Text(message("x.testjob", &data).into())).await.unwrap();
                socket.close(None).await.unwrap();
            }
        });
        let events = Events::listen(url);
        let mut listener = events.subscribe();
        for number in ["1", "2"] {
            assert!(matches!(listener.next().await, LavaEvent::Gap(why) if why == "it was not there before"));
            assert_eq!(job(listener.next().await), number);
            assert!(matches!(listener.next().await, LavaEvent::Gap(why) if why == "closed"));
        }
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_comes_late_is_waited_for_and_then_has_no_gap() {
        // The system takes connections before the publisher does.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let events = Events::listen(format!("ws://{}/ws/", listener.local_addr().unwrap()));
        assert!(events.wait_up(Duration::from_millis(1)).await.unwrap_err().contains("no answer yet"));
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap()
        };
        let (up, mut socket) = tokio::join!(events.wait_up(CONNECT), accept);
        assert_eq!((up, events.link()), (Ok(()), Ok(())));
        let mut late = events.subscribe();
        let data = r#"{"job": 1, "state": "Running", "health": "Unknown"}"#;
        socket.send(Message::Text(message("x.testjob", data).into())).await.unwrap();
        assert_eq!(job(late.next().await), "1");
    }

    #[tokio::test]
    async fn what_keeps_a_stream_away_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws/", listener.local_addr().unwrap());
        drop(listener);
        let events = Events::listen(url);
        let mut link = events.link.clone();
        link.changed().await.unwrap();
        let why = events.wait_up(Duration::from_millis(1)).await.unwrap_err();
        assert!(why.contains("refused"), "{why}");
    }

    proptest! {
        #[test]
        fn any_text_is_an_event_or_left_out(text in ".*", topic in "[a-z.]{0,20}", data in ".*") {
            let _ = parse(&text);
            let _ = parse(&message(&topic, &data));
        }

        #[test]
        fn what_is_announced_is_understood(job in any::<u64>(), state in ".*", health in ".*") {
            let data = serde_json::json!({"job": job, "state": state, "health": health}).to_string();
            let Some(Subject::Job(event)) = parse(&message("x.testjob", &data)) else { panic!("{data}") };
            prop_assert_eq!(event.job, job.to_string());
            prop_assert_eq!((event.state.word(), event.health.word()), (state.as_str(), health.as_str()));
        }
    }
}
