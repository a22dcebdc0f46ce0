//! Asks LAVA what a scenario's `requests` say, once its job has ended.

use serde_json::Value;

use crate::error::Result;
use crate::lava::api::{Api, Reply};
use crate::lava::xmlrpc::{self, Call, Scalar};
use crate::scenario::request::{Ask, Request, User};
use crate::secret::TOKEN;

/// A request and what LAVA said to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The request, as the scenario has it.
    pub request: Request,
    /// The answer.
    pub said: Said,
    /// For each text of the request's `has`, whether it is in the answer.
    pub has: Vec<bool>,
}

/// What LAVA said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// By HTTP.
    Reply(Reply),
    /// By XML-RPC: the scalars of what the method gave, in their order.
    Value(Vec<Scalar>),
    /// By XML-RPC: why it gave nothing.
    Fault(String),
}

impl Said {
    /// Whether `text` is in an answer by HTTP, as it was sent.
    fn has(&self, text: &str) -> bool {
        matches!(self, Self::Reply(reply) if String::from_utf8_lossy(&reply.body).contains(text))
    }
}

/// Asks all of them, one after the other, since an answer may depend on what was asked before.
///
/// # Errors
/// [`crate::error::Error::Infrastructure`] when LAVA does not answer. What it refuses is an answer.
pub async fn ask(
    api: &Api,
    requests: &[Request],
    fill: &(dyn Fn(&str) -> String + Sync),
) -> Result<Vec<Answered>> {
    let nobody = api.without_user();
    let mut answers = Vec::new();
    for request in requests {
        let api = match request.user {
            User::Admin => api,
            User::Nobody => &nobody,
        };
        let filled = request.filled(fill);
        let said = match &filled.ask {
            Ask::Http { method, path, body } => {
                let reply = api.ask(&method.to_string(), path, body.as_ref()).await?;
                Said::Reply(Reply { body: without_tokens(reply.body), ..reply })
            }
            Ask::Call { method, parameters } => {
                let call = Call::new(method.clone(), parameters.iter().map(Into::into).collect::<Vec<_>>());
                match xmlrpc::one(api, &call).await? {
                    xmlrpc::Outcome::Value(scalars) => Said::Value(scalars),
                    xmlrpc::Outcome::Fault(fault) => Said::Fault(fault),
                }
            }
        };
        let has = filled.has.iter().map(|text| said.has(text)).collect();
        answers.push(Answered { request: request.clone(), said, has });
    }
    Ok(answers)
}

/// A body without the value of each `token` in it, where it is JSON: of users and workers, whom a superuser is told
/// of. By XML-RPC a scenario has not to ask for these.
fn without_tokens(body: Vec<u8>) -> Vec<u8> {
    fn remove(value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(token) if key == "token" => TOKEN.clone_into(token),
                        other => remove(other),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(remove),
            _ => {}
        }
    }
    match serde_json::from_slice(&body) {
        Ok(mut value) => {
            remove(&mut value);
            serde_json::to_vec(&value).unwrap_or(body)
        }
        Err(_) => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_no_answer() {
        let body = br#"{"results":[{"hostname":"worker-1","token":"s3cret"}],"token":null}"#.to_vec();
        let kept = String::from_utf8(without_tokens(body)).unwrap();
        assert_eq!(kept, r#"{"results":[{"hostname":"worker-1","token":"[TOKEN]"}],"token":null}"#);
        assert_eq!(without_tokens(b"no JSON".to_vec()), b"no JSON");
    }
}
