//! LAVA's REST API, v0.2: the one that 2023.01 and the newest have in common.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, Result, chain};
use crate::lava::words::{DeviceHealth, DeviceState, JobHealth, JobState, WorkerHealth, WorkerState};
use crate::secret::Secret;
use crate::text::printable;

/// How long one answer may take. LAVA's scheduler, publisher and web server
/// share a machine with all the jobs.
const ANSWER: Duration = Duration::from_secs(60);
/// How long an answer may take that is asked for again and again, at first.
pub const PROBE: Duration = Duration::from_secs(3);
/// How long an idle connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(1);
/// The most items that are asked for at once.
const PAGE: usize = 1000;
/// The most pages that are taken; a server that pages for ever is stopped.
const PAGES: usize = 100;
/// Longest answer, in bytes; real ones are a few hundred kilobytes.
const ANSWER_BYTES: usize = 64 << 20;
/// Longest log, in bytes; what is longer is cut. Many jobs' logs are held at once.
const LOG_BYTES: usize = 16 << 20;
/// What ends a log that was cut. No record of LAVA's looks like it.
const LOG_CUT: &str = "[meta-lava: the log is longer, and was cut here]\n";

/// A client of one LAVA server, as one user. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    client: reqwest::Client,
    /// One that makes a connection for each question.
    fresh: reqwest::Client,
    /// One that goes nowhere else when it is sent there.
    unled: reqwest::Client,
    base: String,
    user: String,
    token: Secret,
    /// Whether it says who it is.
    named: bool,
}

/// What LAVA's web server said to any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP's status.
    pub status: u16,
    /// Its media type, without parameters; empty where none is said.
    pub kind: String,
    /// Where it sends the client instead, if it does.
    pub location: Option<String>,
    /// What it says.
    pub body: Vec<u8>,
    /// Whether it was broken off: LAVA had said already that all is well when something went wrong.
    pub broken: bool,
}

/// What LAVA said to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// It took it; the id of its job, or the sub-ids of its jobs when it is
    /// multinode (`12.0`, `12.1`), which only events and XML-RPC tell the ids of.
    Accepted(Vec<String>),
    /// It refused it, and why.
    Refused(String),
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Id.
    pub id: String,
    /// How far it is.
    pub state: JobState,
    /// How it ended.
    pub health: JobHealth,
    /// The device it was given to.
    pub actual_device: Option<String>,
    /// All that LAVA told, as it came.
    pub raw: Value,
}

impl Job {
    fn from_value(raw: Value) -> Result<Self> {
        let text = |key: &str| raw.get(key).and_then(Value::as_str).map(str::to_owned);
        match (raw.get("id").and_then(id_text), text("state"), text("health")) {
            (Some(id), Some(state), Some(health)) => {
                let (state, health) = (state.into(), health.into());
                Ok(Self { id, state, health, actual_device: text("actual_device"), raw })
            }
            _ => Err(Error::infrastructure(format!(
                "LAVA described a job without id, state or health: {}",
                excerpt(raw.to_string().as_bytes())
            ))),
        }
    }
}

/// A suite of a job's results.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Id.
    pub id: String,
    /// Name: `lava`, `0_smoke`.
    pub name: String,
}

/// A suite's name, and its tests as LAVA tells them.
pub type Results = Vec<(String, Vec<Value>)>;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// Name.
    pub hostname: String,
    /// Device-type.
    pub device_type: String,
    /// Whether it is taken.
    pub state: DeviceState,
    /// Whether it is fit for jobs.
    pub health: DeviceHealth,
    /// Worker.
    #[serde(default)]
    pub worker_host: Option<String>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Worker {
    /// Name.
    pub hostname: String,
    /// Whether the server hears of it.
    pub state: WorkerState,
    /// Whether it is meant to work.
    pub health: WorkerHealth,
    /// Version of its dispatcher, once it has reported.
    #[serde(default)]
    pub version: Option<String>,
    /// What it identifies itself with; only told to superusers.
    #[serde(default, deserialize_with = "secret")]
    pub token: Option<Secret>,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::known))
}

/// A list that comes in pages.
#[derive(Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    next: Option<String>,
    results: Vec<Value>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("base", &self.base).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Api {
    /// A client of the server at `base` (`http://127.0.0.1:32768`).
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when no client can be made.
    pub fn new(base: &str, user: &str, token: Secret) -> Result<Self> {
        // What http_proxy says is about the world, not about our own server.
        let builder = || reqwest::Client::builder().timeout(ANSWER).no_proxy();
        let make = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| Error::failed("make an HTTP client", error))
        };
        Ok(Self {
            // gunicorn closes a connection that was idle for two seconds.
            client: make(builder().pool_idle_timeout(IDLE))?,
            fresh: make(builder().pool_max_idle_per_host(0))?,
            unled: make(builder().pool_max_idle_per_host(0).redirect(Policy::none()))?,
            base: base.trim_end_matches('/').to_owned(),
            user: user.to_owned(),
            token,
            named: true,
        })
    }

    /// The same server, asked by one who has not logged in.
    #[must_use]
    pub fn without_user(&self) -> Self {
        Self { named: false, ..self.clone() }
    }

    /// Where the server is: `127.0.0.1:32768`.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, authority)| authority)
    }

    /// The user that it acts as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The user's token.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v0.2/{path}", self.base)
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, self.url(path))
            .header("Authorization", format!("Token {}", self.token.reveal()))
            .header("Accept", "application/json")
    }

    /// Asks for anything at all, by its path from the server's root on. Whatever it answers is an answer.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when there is none, or it is too long, or the request is none of HTTP's.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let what = format!("ask LAVA to {method} {path}");
        let method = reqwest::Method::from_bytes(method.as_bytes());
        let method = method.map_err(|error| Error::failed(&what, error))?;
        let mut request = self.unled.request(method, format!("{}{path}", self.base));
        if self.named {
            request = request.header("Authorization", format!("Token {}", self.token.reveal()));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| Error::failed(&what, chain(&error.without_url()));
        let mut response = request.send().await.map_err(failed)?;
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let kind = header("content-type").unwrap_or_default();
        let mut reply = Reply {
            status: response.status().as_u16(),
            kind: kind.split(';').next().unwrap_or_default().trim().to_owned(),
            location: header("location"),
            body: Vec::new(),
            broken: false,
        };
        let (body, broken) = body_of(&mut response, ANSWER_BYTES).await;
        match broken {
            Some(error) if error.is_timeout() => return Err(failed(error)),
            broken => reply.broken = broken.is_some(),
        }
        reply.body = within(ANSWER_BYTES, &what, body)?;
        Ok(reply)
    }

    /// Sends a request and gives status and body.
    async fn send(&self, what: &str, request: reqwest::RequestBuilder) -> Result<(StatusCode, Vec<u8>)> {
        let (status, body) = self.send_up_to(ANSWER_BYTES, what, request).await?;
        Ok((status, within(ANSWER_BYTES, what, body)?))
    }

    /// The same with a body that may be cut: when it is longer than `limit`, so
    /// is what is given, by at most one piece of it.
    async fn send_up_to(
        &self,
        limit: usize,
        what: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let begun = Instant::now();
        let failed = |error: reqwest::Error| Error::failed(what, chain(&error.without_url()));
        let request = request.build().map_err(failed)?;
        // A server may close an idle connection just when it is used again: what only
        // reads may then be asked anew (RFC 9110, 9.2.2). Not on another connection that was idle: a server that is
        // busy, or that ends, closes all of them.
        let again = request.try_clone().filter(|request| request.method().is_safe());
        let response = match (self.client.execute(request).await, again) {
            (Err(error), Some(again)) if error.is_request() && !error.is_timeout() => {
                self.fresh.execute(again).await
            }
            (response, _) => response,
        };
        let mut response = response.map_err(failed)?;
        let status = response.status();
        let (body, broken) = body_of(&mut response, limit).await;
        if let Some(error) = broken {
            return Err(failed(error));
        }
        tracing::trace!(what, %status, bytes = body.len(), elapsed = ?begun.elapsed(), "LAVA answered");
        Ok((status, body))
    }

    async fn bytes(&self, what: &str, path: &str) -> Result<Vec<u8>> {
        let (status, body) = self.send(what, self.request(reqwest::Method::GET, path)).await?;
        if status.is_success() { Ok(body) } else { Err(refused(what, status, &body)) }
    }

    async fn get<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<T> {
        parse(what, &self.bytes(what, path).await?)
    }

    /// All items of a list, page after page.
    pub(super) async fn list(&self, what: &str, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let separator = if path.contains('?') { '&' } else { '?' };
        for _ in 0..PAGES {
            let page: Page =
                self.get(what, &format!("{path}{separator}limit={PAGE}&offset={}", items.len())).await?;
            let last = page.next.is_none() || page.results.is_empty();
            items.extend(page.results);
            if last {
                return Ok(items);
            }
        }
        Err(Error::failed(what, "the list has no end"))
    }

    async fn post(&self, what: &str, path: &str, body: &Value) -> Result<(StatusCode, Vec<u8>)> {
        self.send(what, self.request(reqwest::Method::POST, path).json(body)).await
    }

    /// LAVA's version.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it does not answer.
    pub async fn version(&self) -> Result<String> {
        let what = "ask LAVA for its version";
        let value: Value = self.get(what, "system/version/").await?;
        value
            .get("version")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| Error::failed(what, format!("it said {}", excerpt(value.to_string().as_bytes()))))
    }

    /// Waits until the server answers; gives LAVA's version. Refused
    /// connections and gateway errors are waited out, they belong to a start.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] with the last answer, when `deadline` is over.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<String> {
        self.wait_ready_by(deadline, PROBE).await
    }

    /// The same, with `probe` as the time of the first question: one that is lost, as when the
    /// server's socket is there before its workers are, must not take a client's whole patience.
    async fn wait_ready_by(&self, deadline: Duration, mut probe: Duration) -> Result<String> {
        let begun = Instant::now();
        // There is nothing to subscribe to before the server is up: it is asked
        // often, since each question costs it next to nothing.
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let left = deadline.saturating_sub(begun.elapsed());
            let error = match tokio::time::timeout(left.min(probe), self.version()).await {
                Ok(Ok(version)) => return Ok(version),
                Ok(Err(error)) => error.to_string(),
                Err(_) => {
                    // A machine may also be that slow.
                    probe = (probe * 2).min(ANSWER);
                    "it takes connections but does not answer".into()
                }
            };
            if begun.elapsed() >= deadline {
                return Err(Error::infrastructure(format!(
                    "LAVA's server was not ready after {} s; the last attempt: {error}",
                    deadline.as_secs()
                )));
            }
        }
    }

    /// Submits a job.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when there is no answer, or none that makes
    /// sense; a refusal is LAVA's behaviour and no error, see [`Submission`].
    pub async fn submit(&self, definition: &str) -> Result<Submission> {
        let what = "submit a job";
        let (status, body) = self.post(what, "jobs/", &json!({ "definition": definition })).await?;
        if status == StatusCode::BAD_REQUEST {
            let text = serde_json::from_slice::<Value>(&body).ok().map_or_else(
                || String::from_utf8_lossy(&body).into_owned(),
                |value| match value.get("message").and_then(Value::as_str) {
                    Some(message) => message.to_owned(),
                    None => value.to_string(),
                },
            );
            return Ok(Submission::Refused(text));
        }
        if !status.is_success() {
            return Err(refused(what, status, &body));
        }
        let value: Value = parse(what, &body)?;
        let ids: Vec<String> = value
            .get("job_ids")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(id_text)
            .collect();
        if ids.is_empty() {
            return Err(Error::failed(
                what,
                format!("LAVA took it but gave no id: {}", excerpt(value.to_string().as_bytes())),
            ));
        }
        Ok(Submission::Accepted(ids))
    }

    /// A job.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be had.
    pub async fn job(&self, id: &str) -> Result<Job> {
        Job::from_value(self.get(&format!("look at job {id}"), &format!("jobs/{id}/")).await?)
    }

    /// A job's log, YAML as LAVA keeps it; complete once the job is finished.
    /// `None` when there is none, as with a job that was never started. One that is
    /// too long for anybody is cut, and says so in its last line.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be had.
    pub async fn logs(&self, id: &str) -> Result<Option<Vec<u8>>> {
        let what = format!("fetch the log of job {id}");
        let request = self
            .request(reqwest::Method::GET, &format!("jobs/{id}/logs/"))
            .header("Accept", "application/yaml, */*");
        let (status, mut body) = self.send_up_to(LOG_BYTES, &what, request).await?;
        if body.len() > LOG_BYTES {
            body.truncate(LOG_BYTES);
            let whole_lines = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            body.truncate(whole_lines);
            body.extend_from_slice(LOG_CUT.as_bytes());
        }
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(body)),
            status => Err(refused(&what, status, &body)),
        }
    }

    /// The pipeline that LAVA made of a job, YAML; empty where there is none, as with a
    /// job that was never started, and where a job is not public: it is no part of the REST API, but of the
    /// job's page, which knows no tokens.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be had.
    pub async fn pipeline(&self, id: &str) -> Result<Vec<u8>> {
        let what = format!("fetch the pipeline of job {id}");
        let request = self.client.get(format!("{}/scheduler/job/{id}/description", self.base));
        match self.send(&what, request).await? {
            (StatusCode::NOT_FOUND | StatusCode::FORBIDDEN, _) => Ok(Vec::new()),
            (status, body) if status.is_success() => Ok(body),
            (status, body) => Err(refused(&what, status, &body)),
        }
    }

    /// The suites of a job's results, in the order of their making.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when they could not be had.
    pub async fn suites(&self, id: &str) -> Result<Vec<Suite>> {
        let what = format!("fetch the suites of job {id}");
        let found = self.list(&what, &format!("jobs/{id}/suites/")).await?;
        let mut suites: Vec<Suite> = found
            .iter()
            .filter_map(|value| {
                Some(Suite {
                    id: id_text(value.get("id")?)?,
                    name: value.get("name").and_then(Value::as_str)?.to_owned(),
                })
            })
            .collect();
        if suites.len() != found.len() {
            return Err(Error::failed(what, "some have neither id nor name"));
        }
        suites.sort_by_key(|suite| suite.id.parse::<u64>().unwrap_or(u64::MAX));
        Ok(suites)
    }

    /// A job's suites, and the tests of each in the order of their making: all tests in one
    /// request, since each request costs LAVA's server time that its jobs want.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when they could not be had, or one belongs to no suite.
    pub async fn results(&self, id: &str) -> Result<Results> {
        let what = format!("fetch the results of job {id}");
        let mut tests = self.list(&what, &format!("jobs/{id}/tests/")).await?;
        // After the tests: where the job still runs, each one's suite is there by now.
        let suites = self.suites(id).await?;
        tests.sort_by_key(|test| test.get("id").and_then(Value::as_u64).unwrap_or(u64::MAX));
        let mut results: Results = suites.iter().map(|suite| (suite.name.clone(), Vec::new())).collect();
        for test in tests {
            let of = test.get("suite").and_then(id_text);
            let suite = suites.iter().position(|suite| Some(&suite.id) == of.as_ref());
            let Some((_, of_suite)) = suite.and_then(|at| results.get_mut(at)) else {
                let test = excerpt(test.to_string().as_bytes());
                return Err(Error::failed(what, format!("a test is of no suite: {test}")));
            };
            of_suite.push(test);
        }
        Ok(results)
    }

    /// A job's metadata.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be had.
    pub async fn metadata(&self, id: &str) -> Result<Value> {
        self.get(&format!("fetch the metadata of job {id}"), &format!("jobs/{id}/metadata/")).await
    }

    /// Cancels a job: by a POST with the LAVAs of 2026, by a GET with 2023.01, which refuses the other.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when LAVA refuses.
    pub async fn cancel(&self, id: &str) -> Result<()> {
        let (what, path) = (format!("cancel job {id}"), format!("jobs/{id}/cancel/"));
        match self.post(&what, &path, &json!({})).await? {
            (StatusCode::METHOD_NOT_ALLOWED, _) => self.bytes(&what, &path).await.map(|_| ()),
            (status, _) if status.is_success() => Ok(()),
            (status, body) => Err(refused(&what, status, &body)),
        }
    }

    /// All devices.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when they could not be had.
    pub async fn devices(&self) -> Result<Vec<Device>> {
        let what = "list LAVA's devices";
        typed(what, self.list(what, "devices/").await?.into())
    }

    /// A device.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when it could not be had.
    pub async fn device(&self, name: &str) -> Result<Device> {
        let what = format!("look at device {name}");
        typed(&what, self.get(&what, &format!("devices/{name}/")).await?)
    }

    /// Calls a device good again, whatever LAVA made of its last job.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when LAVA refuses.
    pub async fn set_good(&self, device: &str) -> Result<()> {
        let what = format!("call device {device} good");
        let (status, body) =
            self.post(&what, &format!("devices/{device}/set_health/"), &json!({ "health": "GOOD" })).await?;
        if status.is_success() { Ok(()) } else { Err(refused(&what, status, &body)) }
    }

    /// All workers.
    ///
    /// # Errors
    /// [`Error::Infrastructure`] when they could not be had.
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        let what = "list LAVA's workers";
        typed(what, self.list(what, "workers/").await?.into())
    }

    /// Posts XML to `/RPC2`.
    pub(super) async fn xmlrpc(&self, what: &str, body: String) -> Result<Vec<u8>> {
        let mut request = self.client.post(format!("{}/RPC2", self.base));
        if self.named {
            request = request.basic_auth(&self.user, Some(self.token.reveal()));
        }
        let request = request.header("Content-Type", "text/xml").body(body);
        let (status, body) = self.send(what, request).await?;
        if status.is_success() { Ok(body) } else { Err(refused(what, status, &body)) }
    }
}

/// A body, which may be cut: when it is longer than `limit`, so is what is given, by at most one piece of it. Also
/// what broke it off, if something did.
async fn body_of(response: &mut reqwest::Response, limit: usize) -> (Vec<u8>, Option<reqwest::Error>) {
    let mut body = Vec::new();
    while body.len() <= limit {
        match response.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(error) => return (body, Some(error)),
        }
    }
    (body, None)
}

/// `body`, unless it is longer than `limit`.
fn within(limit: usize, what: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    if body.len() <= limit {
        return Ok(body);
    }
    Err(Error::failed(what, format!("LAVA's answer is longer than {} MiB", limit >> 20)))
}

fn typed<T: DeserializeOwned>(what: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::failed(what, format!("LAVA's answer: {error}")))
}

/// Reads an answer to the request to do `what`.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Error::failed(what, format!("LAVA's answer is not what was expected ({error}): {}", excerpt(body)))
    })
}

fn refused(what: &str, status: StatusCode, body: &[u8]) -> Error {
    Error::failed(what, format!("LAVA answered {status}: {}", excerpt(body)))
}

/// Ids are numbers, and strings where they are multinode ones.
fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// The beginning of an answer, in one line that a terminal can take.
fn excerpt(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(4096)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    printable(&match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Answers one request after another with what it is given, on an ephemeral port.
    async fn server(answers: Vec<(&'static str, String)>) -> (Api, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut requests = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let count = stream.read(&mut buffer).await.unwrap();
                    request.extend_from_slice(&buffer[..count]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                        let length = head
                            .lines()
                            .find_map(|line| {
                                line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
                            })
                            .unwrap_or(0);
                        if count == 0 || rest.len() >= length {
                            break;
                        }
                    }
                }
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                requests.push(String::from_utf8_lossy(&request).into_owned());
            }
            requests
        });
        (Api::new(&base, "admin", Secret::known("s3cret")).unwrap(), task)
    }

    #[tokio::test]
    async fn a_job_is_cancelled_as_its_lava_wants_it() {
        let (api, task) = server(vec![("200 OK", "{}".into())]).await;
        api.cancel("7").await.unwrap();
        assert!(task.await.unwrap()[0].starts_with("POST /api/v0.2/jobs/7/cancel/ "));
        let (api, task) =
            server(vec![("405 Method Not Allowed", "{}".into()), ("200 OK", "{}".into())]).await;
        api.cancel("7").await.unwrap();
        let requests = task.await.unwrap();
        assert!(requests[1].starts_with("GET /api/v0.2/jobs/7/cancel/ "), "{requests:?}");
        let (api, _task) = server(vec![("403 Forbidden", "no".into())]).await;
        assert!(api.cancel("7").await.unwrap_err().to_string().contains("403"));
    }

    #[tokio::test]
    async fn a_job_is_taken_or_refused_and_both_are_answers() {
        let (api, task) = server(vec![
            ("201 Created", r#"{"message": "ok", "job_ids": [12]}"#.into()),
            ("201 Created", r#"{"message": "ok", "job_ids": ["13.0", "13.1"]}"#.into()),
            ("400 Bad Request", r#"{"message": "Problem with submitted job data"}"#.into()),
            ("400 Bad Request", r#"{"definition": ["This field is required."]}"#.into()),
            ("500 Oops", "<html>".into()),
        ])
        .await;
        let accepted = |ids: &[&str]| Submission::Accepted(ids.iter().map(|id| (*id).to_owned()).collect());
        assert_eq!(api.submit("job: 1").await.unwrap(), accepted(&["12"]));
        assert_eq!(api.submit("x").await.unwrap(), accepted(&["13.0", "13.1"]));
        let refused = api.submit("x").await.unwrap();
        assert_eq!(refused, Submission::Refused("Problem with submitted job data".into()));
        assert!(
            matches!(api.submit("").await.unwrap(), Submission::Refused(text) if text.contains("required"))
        );
        let error = api.submit("x").await.unwrap_err().to_string();
        assert!(error.contains("500") && error.contains("<html>"), "{error}");
        let requests = task.await.unwrap();
        assert!(requests[0].starts_with("POST /api/v0.2/jobs/ "), "{}", requests[0]);
        assert!(requests[0].to_lowercase().contains("authorization: token s3cret"));
        assert!(requests[0].ends_with(r#"{"definition":"job: 1"}"#));
    }

    #[tokio::test]
    async fn lists_are_read_to_their_end() {
        let page = |next: &str, name: &str| {
            (
                "200 OK",
                format!(r#"{{"count": 2, "next": {next}, "results": [{{"id": 1, "name": "{name}"}}]}}"#),
            )
        };
        let (api, task) = server(vec![page("\"http://x/?offset=1\"", "b"), page("null", "a")]).await;
        let names: Vec<_> = api.suites("7").await.unwrap().into_iter().map(|suite| suite.name).collect();
        assert_eq!(names, ["b", "a"]);
        assert!(task.await.unwrap()[1].starts_with("GET /api/v0.2/jobs/7/suites/?limit=1000&offset=1 "));
    }

    #[tokio::test]
    async fn each_test_is_put_into_its_suite() {
        let page = |results: Value| ("200 OK", json!({ "next": null, "results": results }).to_string());
        let suites = || page(json!([{"id": 5, "name": "lava"}, {"id": 6, "name": "0_none"}]));
        let tests = json!([{"id": 9, "suite": 5}, {"id": 8, "suite": 5}]);
        let (api, task) = server(vec![page(tests), suites()]).await;
        let results = api.results("7").await.unwrap();
        let ids: Vec<(&str, Vec<u64>)> = results
            .iter()
            .map(|(name, tests)| {
                (name.as_str(), tests.iter().filter_map(|test| test["id"].as_u64()).collect())
            })
            .collect();
        assert_eq!(ids, [("lava", vec![8, 9]), ("0_none", vec![])]);
        assert!(task.await.unwrap()[0].starts_with("GET /api/v0.2/jobs/7/tests/?limit=1000&offset=0 "));
        for lost in [json!({"id": 1, "suite": 4}), json!({"id": 1})] {
            let (api, _task) = server(vec![page(json!([lost])), suites()]).await;
            let error = api.results("7").await.unwrap_err().to_string();
            assert!(error.contains("a test is of no suite"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_start_is_waited_out_and_then_given_up() {
        let (api, _task) =
            server(vec![("502 Bad Gateway", String::new()), ("200 OK", r#"{"version": "2023.01"}"#.into())])
                .await;
        assert_eq!(api.wait_ready(Duration::from_secs(20)).await.unwrap(), "2023.01");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let api = Api::new(&base, "admin", Secret::known("s3cret")).unwrap();
        let error = api.wait_ready(Duration::from_millis(150)).await.unwrap_err().to_string();
        assert!(error.contains("not ready"), "{error}");
        assert!(!format!("{api:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn a_question_that_is_lost_is_asked_again_soon() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            // Taken, and never answered.
            let lost = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let body = r#"{"version": "2023.01"}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            lost
        });
        let api = Api::new(&base, "admin", Secret::known("s3cret")).unwrap();
        let begun = Instant::now();
        let version = api.wait_ready_by(Duration::from_secs(50), Duration::from_millis(100)).await.unwrap();
        assert_eq!(version, "2023.01");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        drop(task.await.unwrap());
    }

    #[tokio::test]
    async fn a_question_goes_by_a_new_connection_when_all_idle_ones_are_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let body = r#"{"version": "2023.01"}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let mut request = [0; 4096];
            let mut idle = Vec::new();
            for _ in 0..2 {
                idle.push(listener.accept().await.unwrap().0);
            }
            for stream in &mut idle {
                assert!(stream.read(&mut request).await.unwrap() > 0);
            }
            for stream in &mut idle {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            // Each is closed at its next question.
            for mut stream in idle {
                tokio::spawn(async move { stream.read(&mut [0; 4096]).await });
            }
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let api = Api::new(&base, "admin", Secret::known("s3cret")).unwrap();
        let (one, other) = tokio::join!(api.version(), api.version());
        assert_eq!([one.unwrap(), other.unwrap()], ["2023.01", "2023.01"]);
        assert_eq!(api.version().await.unwrap(), "2023.01");
        task.await.unwrap();
    }

    /// Answers one request with `line`, again and again until nobody reads any more;
    /// how many bytes were taken.
    async fn endless_server(line: &'static [u8]) -> (Api, tokio::task::JoinHandle<usize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
            let lines = line.repeat((1 << 16) / line.len() + 1);
            let mut taken = 0;
            while stream.write_all(&lines).await.is_ok() {
                taken += lines.len();
            }
            taken
        });
        (Api::new(&base, "admin", Secret::known("s3cret")).unwrap(), task)
    }

    #[tokio::test]
    async fn a_log_without_end_is_cut_after_a_whole_line() {
        let record = b"- {\"lvl\": \"target\", \"msg\": \"again\"}\n";
        let (api, task) = endless_server(record).await;
        let log = api.logs("1").await.unwrap().unwrap();
        assert!(log.len() <= LOG_BYTES + LOG_CUT.len());
        let (records, cut) = log.split_at(log.len() - LOG_CUT.len());
        assert_eq!(cut, LOG_CUT.as_bytes());
        assert!(records.ends_with(record));
        // What the two sockets hold comes on top.
        assert!(task.await.unwrap() < LOG_BYTES + (32 << 20));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (api, task) = endless_server(b"[[[[").await;
        let error = api.job("1").await.unwrap_err().to_string();
        assert!(error.contains("longer than 64 MiB"), "{error}");
        assert!(task.await.unwrap() < ANSWER_BYTES + (32 << 20));
    }

    #[tokio::test]
    async fn an_answer_can_not_talk_to_the_terminal() {
        let (api, _task) = server(vec![("500 Oops", "\u{1b}[2J<b>\u{202e}".into())]).await;
        let error = api.job("1").await.unwrap_err().to_string();
        assert!(error.ends_with("\\x1b[2J<b>\\u{202e}"), "{error}");
    }

    #[test]
    fn jobs_need_id_state_and_health() {
        let raw = json!({"id": 3, "state": "Finished", "health": "Complete", "actual_device": null});
        let job = Job::from_value(raw).unwrap();
        assert_eq!(job.state, JobState::Finished);
        assert_eq!((job.id.as_str(), job.actual_device), ("3", None));
        assert!(Job::from_value(json!({"detail": "Not found."})).is_err());
    }

    #[test]
    fn excerpts_are_short_and_cut_between_characters() {
        assert_eq!(excerpt(b" a\n  b "), "a b");
        assert_eq!(excerpt("é".repeat(400).as_bytes()).chars().count(), 301);
    }
}
