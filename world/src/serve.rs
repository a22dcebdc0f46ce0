//! Serves a store by HTTP, under its own paths and through the interface of KissCache.
//!
//! KissCache is the cache that labs put between LAVA and the world: LAVA's
//! `http_url_format_string` makes it ask for `/api/v1/fetch/?url=…`. Here, the only thing behind
//! it is the store: what it is asked for is looked up by the URL's host and path, then by the
//! path alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path as UrlPath, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use meta_lava_formats::tree::normal_path;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

use crate::faults::{self, How};

/// The line that is printed of each request, as JSON on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// Path and query as they were asked for.
    pub uri: String,
    /// Path of the artifact that was looked for, when there was one.
    pub artifact: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// Bytes of the answer, as its header says.
    pub size: Option<u64>,
    /// Who asked: address, without the port.
    pub peer: Option<String>,
    /// What the client says that it is.
    pub user_agent: Option<String>,
}

/// The path of an artifact that a request asked for, from its handler to its line.
#[derive(Debug, Clone)]
struct Asked(String);

#[derive(Debug, Clone)]
struct Store {
    root: PathBuf,
    files: ServeDir,
    asked: faults::Asked,
}

/// Everything that the world answers, for the store `root`.
pub fn router(root: &Path) -> Router {
    let files = ServeDir::new(root).append_index_html_on_directories(false);
    Router::new()
        .route("/", get(|| async { "meta-lava's world\n" }))
        .route("/api/v1/health", get(health))
        .route("/api/v1/health/", get(health))
        .route("/api/v1/fetch", get(fetch))
        .route("/api/v1/fetch/", get(fetch))
        .route("/faults/{how}/{who}/{*path}", get(faulty))
        .route("/gates/{gate}", get(open))
        .fallback(file)
        .with_state(Store { root: root.into(), files, asked: faults::Asked::default() })
        .layer(from_fn(print_line))
}

/// Serves the store `root` on `listener` until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the socket or the signals fail.
pub async fn serve(root: &Path, listener: TcpListener) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    // In its container this is process 1, which no signal ends unless it is waited for.
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for signals")?;
    let service = router(root).into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        result = axum::serve(listener, service) => result.context("can't serve"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn health() -> &'static str {
    "OK\n"
}

async fn file(State(store): State<Store>, request: Request) -> Response {
    let asked = Asked(request.uri().path().trim_start_matches('/').into());
    asked.answer(store.answer(request).await)
}

async fn faulty(
    State(store): State<Store>,
    UrlPath((how, _who, path)): UrlPath<(String, String, String)>,
    mut request: Request,
) -> Response {
    let how = match How::parse(&how) {
        Ok(how) => how,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("no fault: {error}\n")).into_response(),
    };
    let is_wrong = store.asked.is_wrong(&how, request.method(), request.uri().path());
    let Ok(uri) = format!("/{path}").parse() else {
        return (StatusCode::BAD_REQUEST, "no usable path\n").into_response();
    };
    *request.uri_mut() = uri;
    let response = store.answer(request).await;
    let response = if is_wrong { how.spoil(response, &path).await } else { response };
    Asked(path).answer(response)
}

async fn open(State(store): State<Store>, UrlPath(gate): UrlPath<String>) -> &'static str {
    store.asked.open(gate);
    "open\n"
}

/// What KissCache is asked for.
#[derive(Debug, Deserialize)]
struct Fetch {
    url: Option<String>,
    /// How long to keep it: here nothing is ever thrown away.
    #[serde(rename = "ttl")]
    _ttl: Option<String>,
}

async fn fetch(State(store): State<Store>, Query(query): Query<Fetch>, request: Request) -> Response {
    let url = query.url.as_deref().and_then(|url| url.parse::<Uri>().ok());
    let Some((host, path)) = url.as_ref().and_then(|url| Some((url.host()?, url.path()))) else {
        return (StatusCode::BAD_REQUEST, "no usable url\n").into_response();
    };
    let with_host = format!("/{host}{path}");
    let path = if store.has(&with_host).await { with_host.as_str() } else { path };
    let asked = Asked(path.trim_start_matches('/').into());
    let Ok(uri) = path.parse() else {
        return (StatusCode::BAD_REQUEST, "no usable path\n").into_response();
    };
    let (mut parts, body) = request.into_parts();
    parts.uri = uri;
    asked.answer(store.answer(Request::from_parts(parts, body)).await)
}

impl Store {
    async fn has(&self, path: &str) -> bool {
        let Ok(path) = normal_path(path) else { return false };
        tokio::fs::metadata(self.root.join(path)).await.is_ok_and(|metadata| metadata.is_file())
    }

    async fn answer(&self, request: Request) -> Response {
        match self.files.clone().try_call(request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!("can't read the store: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

impl Asked {
    fn answer(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

async fn print_line(request: Request, next: Next) -> Response {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let method = request.method().to_string();
    let uri = request.uri().to_string();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string());
    let user_agent = request.headers().get(header::USER_AGENT).map(text);
    let response = next.run(request).await;
    let size =
        response.headers().get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
    let line = Line {
        method,
        uri,
        artifact: response.extensions().get::<Asked>().map(|asked| asked.0.clone()),
        status: response.status().as_u16(),
        size,
        peer,
        user_agent,
    };
    print(&line);
    response
}

/// Prints a line at once; that nobody reads it any more is no reason to stop.
fn print(line: &Line) {
    use std::io::Write;

    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let _ = std::io::stdout().lock().write_all(&text);
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use tempfile::TempDir;

    use super::*;

    /// A store that is served, and where.
    async fn world() -> (TempDir, String) {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir_all(dir.path().join("kernel")).unwrap();
        std::fs::create_dir_all(dir.path().join("lab.example/kernel")).unwrap();
        std::fs::write(dir.path().join("kernel/Image"), "a kernel").unwrap();
        std::fs::write(dir.path().join("lab.example/kernel/Image"), "the lab's").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let root = dir.path().to_owned();
        tokio::spawn(async move { serve(&root, listener).await });
        (dir, format!("http://{address}"))
    }

    async fn ask(method: Method, url: &str) -> (u16, Option<u64>, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.request(method, url).send().await.unwrap();
        let size =
            response.headers().get("content-length").map(|size| size.to_str().unwrap().parse().unwrap());
        (response.status().as_u16(), size, response.text().await.unwrap())
    }

    #[tokio::test]
    async fn a_file_is_served_with_its_size() {
        let (_dir, world) = world().await;
        let expected = (200, Some(8), "a kernel".into());
        assert_eq!(ask(Method::GET, &format!("{world}/kernel/Image")).await, expected);
        let expected = (200, Some(8), String::new());
        assert_eq!(ask(Method::HEAD, &format!("{world}/kernel/Image")).await, expected);
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let (_dir, world) = world().await;
        for path in
            ["nothing", "kernel", "kernel/", "..%2f..%2fetc/passwd", "api/v1/fetch/?url=http%3A//a/nothing"]
        {
            assert_eq!(ask(Method::GET, &format!("{world}/{path}")).await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn a_server_may_send_elsewhere_or_not_know_the_size() {
        let (_dir, world) = world().await;
        let whole = (200, Some(8), "a kernel".to_owned());
        for (how, get) in
            [("elsewhere=true&head=true", whole.clone()), ("sizeless=true", (200, None, whole.2))]
        {
            assert_eq!(
                ask(Method::GET, &format!("{world}/faults/{how}/me/kernel/Image")).await,
                get,
                "{how}"
            );
        }
        let url = format!("{world}/faults/sizeless=true&head=true/me/kernel/Image");
        assert_eq!(ask(Method::HEAD, &url).await, (200, None, String::new()));
    }

    #[tokio::test]
    async fn kisscache_serves_what_the_path_of_a_url_names() {
        let (_dir, world) = world().await;
        for ask_for in [
            "fetch/?url=http%3A//a.example/kernel/Image",
            "fetch?url=https%3A%2F%2Fb%2Fkernel%2FImage&ttl=5d",
        ] {
            let expected = (200, Some(8), "a kernel".into());
            assert_eq!(ask(Method::GET, &format!("{world}/api/v1/{ask_for}")).await, expected, "{ask_for}");
            assert_eq!(ask(Method::HEAD, &format!("{world}/api/v1/{ask_for}")).await.1, Some(8), "{ask_for}");
        }
    }

    #[tokio::test]
    async fn kisscache_prefers_what_the_host_has() {
        let (_dir, world) = world().await;
        let url = format!("{world}/api/v1/fetch/?url=http%3A//lab.example/kernel/Image");
        assert_eq!(ask(Method::GET, &url).await.2, "the lab's");
    }

    #[tokio::test]
    async fn kisscache_refuses_what_is_no_url() {
        let (_dir, world) = world().await;
        for query in ["", "?url=kernel/Image", "?url="] {
            assert_eq!(ask(Method::GET, &format!("{world}/api/v1/fetch/{query}")).await.0, 400, "{query}");
        }
    }

    #[tokio::test]
    async fn an_address_says_what_is_served_wrongly_and_how_often() {
        let (_dir, world) = world().await;
        let url = format!("{world}/faults/status=503&first=2/job-1/kernel/Image");
        for _ in 0..2 {
            assert_eq!(ask(Method::HEAD, &url).await.0, 200);
            for status in [503, 503, 200, 200] {
                assert_eq!(ask(Method::GET, &url).await.0, status);
            }
        }
        let closed = format!("{world}/faults/status=503&until=job-1/job-1/kernel/Image");
        for _ in 0..2 {
            assert_eq!(ask(Method::HEAD, &closed).await.0, 200);
            assert_eq!(ask(Method::GET, &closed).await.0, 503);
            assert_eq!(ask(Method::GET, &format!("{world}/gates/job-2")).await.0, 200);
            assert_eq!(ask(Method::GET, &closed).await.0, 503, "another one's gate");
            assert_eq!(ask(Method::GET, &format!("{world}/gates/job-1")).await.0, 200);
            assert_eq!(ask(Method::HEAD, &closed).await.0, 200, "which closes no gate");
            assert_eq!(ask(Method::GET, &closed).await.0, 200);
            assert_eq!(ask(Method::GET, &closed).await.0, 503, "closed behind the first");
        }
        let missing = format!("{world}/faults/status=404&head=true/job-1/kernel/Image");
        assert_eq!(ask(Method::HEAD, &missing).await.0, 404);
        let wrong = ask(Method::GET, &format!("{world}/faults/wrong=true/job-1/kernel/Image")).await;
        assert_eq!((wrong.0, wrong.1), (200, Some(8)));
        assert_ne!(wrong.2, "a kernel");
        assert_eq!(ask(Method::GET, &format!("{world}/faults/wrong=true/job-1/none")).await.0, 404);
        assert_eq!(ask(Method::GET, &format!("{world}/faults/odd=1/job-1/kernel/Image")).await.0, 400);
    }

    #[tokio::test]
    async fn a_body_that_is_cut_short_has_the_length_of_the_whole() {
        let (_dir, world) = world().await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = |how: &str| client.get(format!("{world}/faults/{how}/job-1/kernel/Image")).send();
        let response = get("short=3").await.unwrap();
        assert_eq!(response.content_length(), Some(8));
        assert!(response.bytes().await.is_err());
        let mut stalled = get("stall=true").await.unwrap();
        assert_eq!(stalled.chunk().await.unwrap().unwrap(), "a ke");
        assert_eq!(get("longer=2").await.unwrap().bytes().await.unwrap().len(), 10);
    }

    #[tokio::test]
    async fn it_says_that_it_is_ready() {
        let (_dir, world) = world().await;
        for path in ["/", "/api/v1/health", "/api/v1/health/"] {
            assert_eq!(ask(Method::GET, &format!("{world}{path}")).await.0, 200, "{path}");
        }
    }
}
