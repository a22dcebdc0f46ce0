//! What the world serves wrongly, on purpose: the address says how.
//!
//! `/faults/HOW/WHO/PATH` is the artifact `PATH`, served as `HOW` says: `status=500&first=1` is
//! refused once with HTTP status 500. `WHO` keeps those apart who ask for the same at a time; a
//! scenario puts its own name there. A job asks with HEAD before it begins
//! (`lava_dispatcher/actions/deploy/download.py`), and with that its requests are counted anew.
//!
//! `until=GATE` ends it when somebody asks for `/gates/GATE`, as LAVA does for a job with a callback
//! (`invoke_callback` in `lava_scheduler_app/models.py`). Who is let through closes the gate behind it; a HEAD does not, since on a
//! busy machine the gate may be open before the job that waits for it has begun to.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::StreamExt;
use futures_util::stream;
use serde::Deserialize;

/// Largest artifact that is served wrongly, in bytes.
const LIMIT: usize = 256 << 20;

/// How an artifact is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct How {
    /// With this HTTP status, and without the artifact.
    pub status: Option<u16>,
    /// So many bytes less of the body than the header promises; then the connection ends.
    pub short: Option<usize>,
    /// So many bytes more than HEAD promised.
    pub longer: Option<usize>,
    /// Half of the body, and then nothing more.
    pub stall: bool,
    /// Without a word of how large it is.
    pub sizeless: bool,
    /// By the address where it is served right.
    pub elsewhere: bool,
    /// With all bytes of the body others.
    pub wrong: bool,
    /// Only the first so many times.
    pub first: Option<u32>,
    /// Unless this gate is open.
    pub until: Option<String>,
    /// A HEAD, too.
    pub head: bool,
}

impl How {
    /// Reads the part of an address that says how.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_urlencoded::from_str(text).map_err(|error| format!("{text}: {error}"))
    }

    /// What becomes of the right `response` to a request for `path`.
    pub async fn spoil(&self, response: Response, path: &str) -> Response {
        if let Some(status) = self.status {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return (status, "wrong on purpose\n").into_response();
        }
        if self.elsewhere {
            return Redirect::temporary(&format!("/{path}")).into_response();
        }
        let (mut parts, body) = response.into_parts();
        if self.sizeless {
            parts.headers.remove(CONTENT_LENGTH);
            return Response::from_parts(parts, Body::from_stream(body.into_data_stream()));
        }
        let Ok(body) = to_bytes(body, LIMIT).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let mut bytes = body.to_vec();
        if self.wrong {
            bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
        }
        if let Some(more) = self.longer {
            parts.headers.remove(CONTENT_LENGTH);
            bytes.resize(bytes.len() + more, 0);
        }
        let size = match (self.short, self.stall) {
            (Some(short), _) => bytes.len().saturating_sub(short),
            (None, true) => bytes.len() / 2,
            (None, false) => bytes.len(),
        };
        let is_whole = size == bytes.len();
        bytes.truncate(size);
        let bytes = stream::iter([Ok::<_, io::Error>(Bytes::from(bytes))]);
        let body = if self.stall {
            Body::from_stream(bytes.chain(stream::pending()))
        } else if is_whole {
            Body::from_stream(bytes)
        } else {
            // What is there goes out before the connection ends.
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(io::Error::other("cut short on purpose"))
            });
            Body::from_stream(bytes.chain(end))
        };
        Response::from_parts(parts, body)
    }
}

/// What was asked for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// How often each address was asked for since its last HEAD.
    counts: HashMap<String, u32>,
    /// The gates that are open.
    open: HashSet<String>,
}

impl Asked {
    /// Whether a request for `address` is served as `how` says.
    #[must_use]
    pub fn is_wrong(&self, how: &How, method: &Method, address: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *method == Method::HEAD {
            known.counts.remove(address);
            return how.head;
        }
        if how.until.as_ref().is_some_and(|gate| known.open.remove(gate)) {
            return false;
        }
        let count = known.counts.entry(address.to_owned()).or_default();
        *count += 1;
        how.first.is_none_or(|first| *count <= first)
    }

    /// Opens a gate for one request.
    pub fn open(&self, gate: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open.insert(gate);
    }
}
