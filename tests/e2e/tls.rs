//! An engine over TLS, as GitLab's docker:dind is.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::engine::assert_nothing_left;
use crate::faults_in_a_stack::name_of;
use crate::proxy::socket;
use crate::report::Report;
use crate::repository::{QUICK, Repository};
use crate::tool::{call, files_below, run, start};

/// A port that speaks TLS and leads to the engine of this machine; as long as it lives.
struct Front {
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    fn new(config: Arc<ServerConfig>) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let engine = socket();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (config, engine) = (Arc::clone(&config), engine.clone());
                tokio::spawn(async move {
                    let mut client = TlsAcceptor::from(config).accept(client).await?;
                    let mut server = UnixStream::connect(engine).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { port, _runtime: runtime }
    }
}

#[test]
fn a_missing_certificate_is_a_mistake_of_the_user() {
    let repository = Repository::new();
    let dir = tempfile::tempdir().unwrap();
    let folder = Authority::new().client(dir.path());
    std::fs::remove_file(folder.join("ca.pem")).unwrap();
    let ended = call(
        run(&repository, &[QUICK])
            .env("DOCKER_HOST", "tcp://docker:2376")
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &folder),
    );
    let ca = folder.join("ca.pem").display().to_string();
    ended.failed(2, &[&ca, "can't be read", "DOCKER_CERT_PATH", "or unset DOCKER_TLS_VERIFY"]);
    assert_eq!(Report::of(&repository).verdicts(), ["error"]);
}

#[test]
fn a_socket_is_a_socket_also_where_the_variables_ask_for_tls() {
    let repository = Repository::new();
    let path = repository.temporary().join("engine.lock");
    drop(UnixListener::bind(&path).unwrap());
    let address = format!("unix://{}", path.display());
    let ended = call(
        run(&repository, &[QUICK])
            .env("DOCKER_HOST", &address)
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", "/nonexistent"),
    );
    ended.failed(3, &["no answer from the Docker engine at", &address]);
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_run_over_tls_passes_and_leaves_nothing_neither_there_nor_of_the_key() {
    let (repository, authority) = (Repository::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let client = authority.client(dir.path());
    let front = Front::new(authority.server(&["localhost"]));
    let mut process = start(
        run(&repository, &[QUICK])
            .env("DOCKER_HOST", format!("tcp://localhost:{}", front.port))
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", &client)
            // As if the engine were on another machine.
            .env("META_LAVA_TUNNEL", "1")
            // Whoever this machine trusts, here nobody, is not asked by the Compose tool.
            .env("REQUESTS_CA_BUNDLE", "/dev/null"),
    );
    let name = name_of(&mut process);
    let ended = process.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(Report::of(&repository).verdicts(), ["pass"]);
    assert_nothing_left(&name, &[]);
    let key = std::fs::read_to_string(client.join("key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for file in files_below(&repository.report()) {
        let content = std::fs::read(repository.report().join(&file)).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains(secret), "the key is in {}", file.display());
    }
    assert!(!(ended.stdout + &ended.stderr).contains(secret));
}
