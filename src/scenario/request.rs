//! What a scenario asks LAVA's server once its job has ended, as a user's program or browser does.
//!
//! ```yaml
//! requests:
//! - get: /api/v0.2/jobs/{job}/junit/
//! - post: /api/v0.2/jobs/validate/
//!   body: {definition: "job_name: x"}
//! - call: results.get_testjob_results_csv
//!   parameters: ["{job}"]
//! - get: /scheduler/job/{job}
//!   as: nobody
//! - get: /api/v0.2/jobs/{job}/csv/
//!   show: status
//! - get: /scheduler/device/{device}
//!   has: ['/scheduler/job/{job}"']
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Who asks.
    pub user: User,
    /// How much of the answer is compared.
    pub show: Show,
    /// Texts of which is told whether the answer has them, as it was sent: of a page for people more than its title.
    pub has: Vec<String>,
}

/// How much of an answer is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Show {
    /// All of it.
    #[default]
    All,
    /// Whether it is an answer and of what kind: what it says is never the same twice.
    Status,
}

/// What is asked. In all texts of it `{job}` is the id of the scenario's (first) job, `{device}` and
/// `{device_type}` what it ran on, `{worker}` that device's worker, and `{suite}` and `{test}` the ids of the
/// last suite of its results and of that suite's first test.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Of LAVA's web server, by HTTP.
    Http {
        /// How.
        method: Method,
        /// From the server's root on, `/` included.
        path: String,
        /// JSON that is sent along.
        body: Option<Value>,
    },
    /// Of LAVA's XML-RPC: a method with its parameters, which are scalars.
    Call {
        /// Its name, such as `scheduler.jobs.show`.
        method: String,
        /// Its parameters.
        parameters: Vec<Value>,
    },
}

/// HTTP's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// The run's own user, who may do everything.
    #[default]
    Admin,
    /// One who has not logged in.
    Nobody,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        })
    }
}

impl fmt::Display for Request {
    /// As a scenario's results show it: `GET /api/v0.2/jobs/{job}/`, `call scheduler.jobs.show {job}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ask {
            Ask::Http { method, path, body } => {
                write!(f, "{method} {path}")?;
                if let Some(body) = body {
                    write!(f, " {body}")?;
                }
            }
            Ask::Call { method, parameters } => {
                write!(f, "call {method}")?;
                for parameter in parameters {
                    write!(f, " {}", plain(parameter))?;
                }
            }
        }
        match self.user {
            User::Admin => Ok(()),
            User::Nobody => f.write_str(" as nobody"),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Request {
    /// The request with `fill` of each of its texts.
    #[must_use]
    pub fn filled(&self, fill: &dyn Fn(&str) -> String) -> Self {
        let ask = match &self.ask {
            Ask::Http { method, path, body } => Ask::Http {
                method: *method,
                path: fill(path),
                body: body.as_ref().map(|body| filled(body, fill)),
            },
            Ask::Call { method, parameters } => Ask::Call {
                method: method.clone(),
                parameters: parameters.iter().map(|parameter| filled(parameter, fill)).collect(),
            },
        };
        Self { ask, has: self.has.iter().map(|text| fill(text)).collect(), ..*self }
    }
}

fn filled(value: &Value, fill: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => fill(text).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, fill)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), filled(value, fill))).collect(),
        other => other.clone(),
    }
}

impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            get: Option<String>,
            post: Option<String>,
            put: Option<String>,
            patch: Option<String>,
            delete: Option<String>,
            call: Option<String>,
            body: Option<Value>,
            #[serde(default)]
            parameters: Vec<Value>,
            #[serde(default, rename = "as")]
            user: User,
            #[serde(default)]
            show: Show,
            #[serde(default)]
            has: Vec<String>,
        }
        let wrong = |message: &str| Err(serde::de::Error::custom(message));
        let file = File::deserialize(deserializer)?;
        let by_http = [
            (Method::Get, file.get),
            (Method::Post, file.post),
            (Method::Put, file.put),
            (Method::Patch, file.patch),
            (Method::Delete, file.delete),
        ];
        let mut asked = by_http.into_iter().filter_map(|(method, path)| Some((method, path?)));
        let ask = match (asked.next(), asked.next(), file.call) {
            (Some((method, path)), None, None) => {
                if !path.starts_with('/') {
                    return wrong("a path begins with `/`, at the server's root");
                }
                if !file.parameters.is_empty() {
                    return wrong("`parameters` are of a `call`; send a `body`, or put them into the path");
                }
                if file.body.is_some() && method == Method::Get {
                    return wrong("a `get` has no `body`");
                }
                Ask::Http { method, path, body: file.body }
            }
            (None, None, Some(method)) => {
                if file.body.is_some() {
                    return wrong("a `call` has `parameters`, and no `body`");
                }
                if !file.has.is_empty() {
                    return wrong(
                        "what a `call` gives is shown as it is: `has` is for what HTTP's methods give",
                    );
                }
                if !file.parameters.iter().all(|one| !one.is_array() && !one.is_object()) {
                    return wrong("the `parameters` of a `call` are texts, whole numbers, truths or null");
                }
                Ask::Call { method, parameters: file.parameters }
            }
            _ => return wrong("a request is one of `get`, `post`, `put`, `patch`, `delete` and `call`"),
        };
        Ok(Self { ask, user: file.user, show: file.show, has: file.has })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Request, String> {
        serde_yaml::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_shown_as_it_is_asked() {
        let fill = |text: &str| text.replace("{job}", "7");
        for (yaml, shown) in [
            ("get: /api/v0.2/jobs/{job}/", "GET /api/v0.2/jobs/7/"),
            ("{post: /x, body: {id: '{job}', n: [1]}}", r#"POST /x {"id":"7","n":[1]}"#),
            ("{call: scheduler.jobs.show, parameters: ['{job}', 3]}", "call scheduler.jobs.show 7 3"),
            ("{delete: /x, as: nobody}", "DELETE /x as nobody"),
        ] {
            assert_eq!(read(yaml).unwrap().filled(&fill).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_it_should_be() {
        for (yaml, why) in [
            ("{}", "a request is one of"),
            ("{get: /x, post: /x}", "a request is one of"),
            ("{get: x}", "a path begins with `/`"),
            ("{get: /x, body: 1}", "a `get` has no `body`"),
            ("{get: /x, parameters: [1]}", "`parameters` are of a `call`"),
            ("{call: x, body: 1}", "a `call` has `parameters`"),
            ("{call: x, has: [y]}", "`has` is for what HTTP's methods give"),
            ("{call: x, parameters: [[1]]}", "are texts, whole numbers"),
            ("{get: /x, as: root}", "unknown variant `root`"),
            ("{get: /x, show: nothing}", "unknown variant `nothing`"),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.contains(why), "{yaml}: {error}");
        }
    }
}
