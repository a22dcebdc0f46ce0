use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::exit_code::Exit;
use crate::stack::docker::Engine;

#[path = "../../../../tests/e2e/certificates.rs"]
mod certificates;

use certificates::Authority;

/// An answer to each question that a connection begins with.
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 41\r\n\r\n\
                      {\"Version\":\"27.0.1\",\"ApiVersion\":\"1.46\"}\n";
/// What Go's HTTPS servers say to who speaks no TLS.
const NO_TLS: &str = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Reads a question and gives an answer to it.
async fn answer(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, text: &str) {
    let mut question = Vec::new();
    while !question.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => question.push(byte),
            Err(_) => break,
        }
    }
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// The port of an engine that can do no more than tell its version; over TLS, or
/// without. A client without TLS is answered when it has hung up or has asked.
async fn engine(tls: Option<Arc<rustls::ServerConfig>>, text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &tls {
                None => answer(stream, text).await,
                Some(config) => {
                    if let Ok(stream) = TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
                        answer(stream, text).await;
                    }
                }
            }
        }
    });
    port
}

async fn connect(address: String, folder: Option<&Path>) -> Result<Engine> {
    let tls = folder.map(|folder| Tls { folder: folder.to_owned(), by: By::Variable("DOCKER_TLS_VERIFY") });
    let host = Host { address, source: "from DOCKER_HOST".into(), tls };
    Engine::connect_to(host, Duration::from_secs(20)).await
}

/// It failed with this exit code, in one line, with these words.
#[track_caller]
fn failed(outcome: Result<Engine>, exit: Exit, words: &[&str]) {
    let error = outcome.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit(), exit, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn an_engine_is_reached_over_tls_by_each_of_its_names() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let folder = authority.client(dir.path());
    let port = engine(Some(authority.server(&["localhost", "127.0.0.1"])), ANSWER).await;
    for name in ["localhost", "127.0.0.1"] {
        let found = connect(format!("tcp://{name}:{port}"), Some(&folder)).await.unwrap();
        assert!(format!("{found:?}").contains("27.0.1"), "{found:?}");
        found.check_answers().await.unwrap();
    }
}

#[tokio::test]
async fn an_engine_of_another_authority_is_not_trusted() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let folder = authority.client(dir.path());
    let port = engine(Some(Authority::new().server(&["localhost"])), ANSWER).await;
    let ca = folder.join("ca.pem").display().to_string();
    let outcome = connect(format!("tcp://localhost:{port}"), Some(&folder)).await;
    failed(outcome, Exit::Infrastructure, &["is not trusted", "is not signed by", &ca, "from DOCKER_HOST"]);
}

#[tokio::test]
async fn an_engine_of_another_name_is_not_trusted() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let folder = authority.client(dir.path());
    let port = engine(Some(authority.server(&["docker"])), ANSWER).await;
    let outcome = connect(format!("tcp://localhost:{port}"), Some(&folder)).await;
    failed(outcome, Exit::Infrastructure, &["is not trusted", "\"localhost\"", "\"docker\"", "call it by"]);
}

#[tokio::test]
async fn an_engine_that_does_not_know_us_says_so() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let folder = authority.client(dir.path());
    let stranger = Authority::new().client(&dir.path().join("stranger"));
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(stranger.join(name), folder.join(name)).unwrap();
    }
    let port = engine(Some(authority.server(&["localhost"])), ANSWER).await;
    let outcome = connect(format!("tcp://localhost:{port}"), Some(&folder)).await;
    failed(outcome, Exit::Infrastructure, &["does not take the certificate", "cert.pem", "TLS alert"]);
}

#[tokio::test]
async fn where_only_one_side_speaks_tls_both_ways_have_their_advice() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let folder = authority.client(dir.path());
    let server = authority.server(&["localhost"]);
    let advice = ["its port speaks TLS", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH", "ca.pem"];
    for port in [engine(Some(server), ANSWER).await, engine(None, NO_TLS).await] {
        let outcome = connect(format!("tcp://localhost:{port}"), None).await;
        failed(outcome, Exit::Usage, &advice);
    }
    // Some hang up without a word.
    let outcome = connect(format!("tcp://localhost:{}", engine(None, "").await), None).await;
    failed(outcome, Exit::Infrastructure, &["if this port speaks TLS", "DOCKER_TLS_VERIFY=1"]);
    // A plain port reads on for the end of a request, which TLS has none of: it answers
    // as soon as it sees that this is no HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let outcome = connect(format!("tcp://localhost:{port}"), Some(&folder)).await;
    failed(outcome, Exit::Usage, &["does not speak TLS on this port", "2376", "unset DOCKER_TLS_VERIFY"]);
}

#[test]
fn each_file_that_is_no_good_is_named_with_who_says_that_it_is_there_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let host = Host { address: "tcp://docker:2376".into(), source: String::new(), tls: None };
    let good = authority.client(dir.path());
    let told = |folder: &Path, by: By| {
        let error = Tls { folder: folder.to_owned(), by }.config(&host).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
        error.to_string()
    };
    let other = std::fs::read_to_string(authority.client(&dir.path().join("other")).join("key.pem")).unwrap();
    let secret = other.lines().nth(1).unwrap();
    let half = other.replace("-----END PRIVATE KEY-----", "");
    let twisted = other.replace(secret, &secret.chars().rev().collect::<String>());
    let encrypted = other.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases: &[(&str, Option<&str>, &str)] = &[
        ("ca.pem", None, "can't be read: No such file or directory"),
        ("cert.pem", None, "can't be read"),
        ("key.pem", None, "can't be read"),
        ("ca.pem", Some(" \n"), "is empty"),
        ("key.pem", Some(""), "is empty"),
        ("ca.pem", Some("rubbish"), "has no certificate"),
        ("ca.pem", Some(hollow), "has no certificate that can be read"),
        ("cert.pem", Some(hollow), "has a certificate that can't be read"),
        ("cert.pem", Some("-----BEGIN CERTIFICATE-----\n"), "is not a well-formed PEM file"),
        ("key.pem", Some("rubbish"), "has no private key"),
        ("key.pem", Some(hollow), "has no private key"),
        ("key.pem", Some(&half), "is not a well-formed PEM file"),
        ("key.pem", Some(&twisted), "has a private key that can't be used"),
        ("key.pem", Some(&encrypted), "has no private key without a passphrase"),
        ("key.pem", Some(&other), "is not the key of the certificate in cert.pem"),
    ];
    for (number, (name, content, what)) in cases.iter().enumerate() {
        let folder = dir.path().join(number.to_string());
        std::fs::create_dir(&folder).unwrap();
        for file in [CA, CERT, KEY] {
            std::fs::copy(good.join(file), folder.join(file)).unwrap();
        }
        match content {
            None => std::fs::remove_file(folder.join(name)).unwrap(),
            Some(content) => std::fs::write(folder.join(name), content).unwrap(),
        }
        let text = told(&folder, By::Variable("DOCKER_TLS_VERIFY"));
        assert!(text.starts_with(&format!("{} {what}", folder.join(name).display())), "{what}: {text}");
        assert!(text.ends_with("or unset DOCKER_TLS_VERIFY") && text.contains("DOCKER_CERT_PATH"), "{text}");
        assert!(text.contains("tcp://docker:2376") && text.lines().count() == 1, "{text}");
        assert!(!text.contains(secret), "a key is told: {text}");
    }
    let nowhere = dir.path().join("nowhere");
    let text = told(&nowhere, By::VariableAlone("DOCKER_TLS"));
    assert!(text.contains("since DOCKER_CERT_PATH is not set"), "{text}");
    let text = told(&nowhere, By::Context("lab".into()));
    assert!(text.contains("\"lab\"") && text.contains("docker context update"), "{text}");
}
