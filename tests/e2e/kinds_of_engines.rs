//! Engines that a run can't work on: it says so before anything starts. They are played here.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::engine::docker;
use crate::report::Report;
use crate::repository::{QUICK, Repository};
use crate::tool::{Ended, call, meta_lava, run};

/// An engine that tells what it is, and nothing else; its address.
fn engine(repository: &Repository, min_api: &str, security: &[&str]) -> String {
    let version = json!({"Version": "29.0.0", "ApiVersion": "1.51", "MinAPIVersion": min_api});
    let info = json!({"OSType": "linux", "Architecture": "x86_64", "SecurityOptions": security});
    let path = repository.temporary().join("engine.lock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            answer(client, &version, &info);
        }
    });
    format!("unix://{}", path.display())
}

fn answer(mut client: UnixStream, version: &Value, info: &Value) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let body = if line.contains("/version") {
        version.to_string()
    } else if line.contains("/info") {
        info.to_string()
    } else {
        "[]".to_owned()
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let _ = write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
}

/// A folder with a Compose tool that understands everything but `ps`; for PATH.
fn old_compose(repository: &Repository) -> PathBuf {
    let folder = repository.root().join("bin");
    repository.write(
        "bin/docker-compose",
        "#!/bin/sh\ncase \"$*\" in\n\
         *' ps '*) echo 'client version 1.22 is too old. Minimum supported API version is 1.44' >&2; exit 1;;\n\
         *version*) echo 1.21.0;;\nesac\n",
    );
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.join("docker-compose"), mode).unwrap();
    folder
}

/// A run that must not begin.
#[track_caller]
fn run_on(repository: &Repository, address: &str) -> Ended {
    let mut command = run(repository, &[QUICK]);
    command.env("DOCKER_HOST", address).env("PATH", old_compose(repository));
    let ended = call(&mut command);
    assert_eq!(Report::of(repository).verdicts(), ["error"]);
    assert!(!ended.stderr.contains("building"), "{}", ended.stderr);
    ended
}

#[test]
fn a_compose_tool_that_the_engine_does_not_answer_is_named_with_what_to_install() {
    let repository = Repository::new();
    let address = engine(&repository, "1.44", &["name=seccomp,profile=builtin"]);
    let words = ["`docker-compose`", "Minimum supported API version is 1.44", "docker-compose-plugin"];
    run_on(&repository, &address).failed(3, &words);
    assert_eq!(repository.left_temporary(), [""; 0]);
    let mut doctor = meta_lava(&repository);
    doctor.arg("doctor").env("DOCKER_HOST", &address).env("PATH", old_compose(&repository));
    let ended = call(&mut doctor);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    for word in words {
        assert!(ended.stdout.contains(word), "{word:?} is not in:\n{}", ended.stdout);
    }
    assert!(ended.stdout.ends_with("this machine is not ready\n"), "{}", ended.stdout);
}

#[test]
fn an_engine_whose_root_is_not_the_machines_is_refused_with_the_reason() {
    for (option, word) in [("name=rootless", "is rootless"), ("name=userns", "userns-remap")] {
        let repository = Repository::new();
        let address = engine(&repository, "1.24", &["name=seccomp,profile=builtin", option]);
        run_on(&repository, &address).failed(3, &[&address, word, "NFS"]);
    }
}

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn doctor_tries_the_engine_and_leaves_nothing() {
    let repository = Repository::new();
    let ended = call(meta_lava(&repository).arg("doctor"));
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    // A warning of the Compose tool would be a line of its own.
    for line in ["ok    compose      it reads the files of a run", "ok    container    one that is allowed"] {
        assert!(ended.stdout.contains(line), "{line:?} is not in:\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("warn  compose"), "{}", ended.stdout);
    assert_eq!(docker(&["images", "--quiet", "meta-lava/trial"]), [""; 0]);
    assert_eq!(repository.left_temporary(), [""; 0]);
}
