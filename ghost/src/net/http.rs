//! An HTTP client: what a boot loader's `wget` does, or iPXE.
//!
//! RFC 9110 and 9112 by `reqwest`, without TLS and without the worker's proxy:
//! a board knows nothing of it.

use std::time::Duration;

use reqwest::StatusCode;

use super::{FILE_LIMIT, FetchError};

/// How long to wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for any more bytes.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Fetches `url`, which must be `http://`.
///
/// # Errors
/// [`FetchError::NotFound`] on 404 and 410, [`FetchError::Refused`] on any other
/// status but 2xx and when there is nobody to connect to, [`FetchError::Timeout`]
/// on silence, [`FetchError::Bad`] on a body too large or cut short.
pub async fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    get_limited(url, FILE_LIMIT, READ_TIMEOUT).await
}

async fn get_limited(url: &str, limit: usize, read_timeout: Duration) -> Result<Vec<u8>, FetchError> {
    let failed = |error: reqwest::Error| classify(url, &error);
    let client = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(read_timeout)
        .build()
        .map_err(failed)?;
    let mut response = client.get(url).send().await.map_err(failed)?;
    match response.status() {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::NotFound(url.to_owned())),
        status => return Err(FetchError::Refused(format!("HTTP status {status}"))),
    }
    let too_large = || FetchError::Bad(format!("{url}: over the limit of {limit} bytes"));
    let mut body = Vec::new();
    if let Some(announced) = response.content_length() {
        let announced =
            usize::try_from(announced).ok().filter(|size| *size <= limit).ok_or_else(too_large)?;
        body.reserve(announced.min(64 << 20));
    }
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn classify(url: &str, error: &reqwest::Error) -> FetchError {
    // The root of the chain says what happened; the rest says that something did.
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    if error.is_timeout() {
        FetchError::Timeout(url.to_owned())
    } else if error.is_connect() {
        FetchError::Refused(root.to_string())
    } else {
        FetchError::Bad(format!("{url}: {root}"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives each connection the same answer; returns its base URL.
    async fn server(answer: impl Into<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.into();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        url
    }

    #[tokio::test]
    async fn a_file_comes_whole() {
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(get(&format!("{url}/a")).await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn hosts_may_have_names() {
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(get(&url.replace("127.0.0.1", "localhost")).await.unwrap(), b"hi");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_short_is_no_file() {
        let url = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
        assert!(matches!(get(&url).await, Err(FetchError::Bad(_))));
    }

    #[tokio::test]
    async fn not_found_is_told_from_other_refusals() {
        let missing = server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(get(&missing).await, Err(FetchError::NotFound(missing.clone())));
        let broken = server("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(get(&broken).await, Err(FetchError::Refused(_))));
    }

    #[tokio::test]
    async fn nobody_there_is_a_refusal() {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(matches!(get(&format!("http://127.0.0.1:{port}/")).await, Err(FetchError::Refused(_))));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_announced_or_not() {
        let announced = server("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world").await;
        let chunked =
            server("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")
                .await;
        for url in [announced, chunked] {
            assert!(matches!(get_limited(&url, 10, READ_TIMEOUT).await, Err(FetchError::Bad(_))));
            assert_eq!(get_limited(&url, 11, READ_TIMEOUT).await.unwrap(), b"hello world");
        }
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let got = get_limited(&url, 10, Duration::from_millis(50)).await;
        assert_eq!(got, Err(FetchError::Timeout(url)));
    }

    #[tokio::test]
    async fn rubbish_is_no_file() {
        let url = server(vec![0xff; 100]).await;
        assert!(matches!(get(&url).await, Err(FetchError::Bad(_))));
        assert!(matches!(get("https://127.0.0.1/").await, Err(FetchError::Bad(_) | FetchError::Refused(_))));
        assert!(matches!(get("no url").await, Err(FetchError::Bad(_))));
    }
}
