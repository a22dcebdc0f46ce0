use super::super::testing::Bench;
use super::*;

const BOARD: &str = "
model: A container
firmware:
  kind: none
";

/// The exit code of a command line that goes no further than the client, and what it says.
fn refused(line: &str) -> (u8, String) {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match command(&args) {
        Err(Ended(says, code)) => (code, says),
        Ok(_) => panic!("{line} is taken"),
    }
}

/// As Docker 20.10.24 printed them.
#[test]
fn a_wrong_command_line_is_refused_in_dockers_words() {
    for (line, code, says) in [
        ("frob", 1, "docker: 'frob' is not a docker command.\nSee 'docker --help'"),
        ("--frob", 125, "unknown flag: --frob\nSee 'docker --help'."),
        ("run --frob x", 125, "unknown flag: --frob\nSee 'docker run --help'."),
        ("run -q x", 125, "unknown shorthand flag: 'q' in -q\nSee 'docker run --help'."),
        ("run --name", 125, "flag needs an argument: --name\nSee 'docker run --help'."),
        ("pull --frob", 125, "unknown flag: --frob\nSee 'docker pull --help'."),
        (
            "stop -t x y",
            125,
            "invalid argument \"x\" for \"-t, --time\" flag: strconv.ParseInt: parsing \"x\": invalid syntax\n\
             See 'docker stop --help'.",
        ),
        (
            "run --mount=bogus x",
            125,
            "invalid argument \"bogus\" for \"--mount\" flag: invalid field 'bogus' must be a key=value pair\n\
             See 'docker run --help'.",
        ),
        (
            "run",
            1,
            "\"docker run\" requires at least 1 argument.\nSee 'docker run --help'.\n\n\
             Usage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun a command in a new container",
        ),
        (
            "exec x",
            1,
            "\"docker exec\" requires at least 2 arguments.\nSee 'docker exec --help'.\n\n\
             Usage:  docker exec [OPTIONS] CONTAINER COMMAND [ARG...]\n\nRun a command in a running container",
        ),
        ("build .", 1, "ghost: docker build is not played"),
    ] {
        assert_eq!(refused(line), (code, says.to_owned()), "{line}");
    }
}

#[test]
fn lavas_command_lines_are_taken() {
    for line in [
        "version -f {{.Server.Version}}",
        "pull registry.example.org/lab/tests",
        "inspect --format {{.Architecture}} registry.example.org/lab/tests",
        "run --rm --interactive --tty --hostname lava --name lava-1-2.1 --volume /a:/lava-1 image /bin/sh",
        "run --interactive --tty --rm --init --name=a --mount=type=bind,source=/a,destination=/b --env=PS1=x image bash",
        "run --detach --rm --init --name=a image sleep infinity",
        "exec a test -e /dev/null",
        "rm -f a",
    ] {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert!(command(&args).is_ok(), "{line}");
    }
}

#[test]
fn without_a_daemon_of_ghosts_it_says_so() {
    let request = Request::Called { tool: "docker".into(), args: Vec::new(), device: None };
    assert!(control::ask(Path::new("/nowhere"), &request).is_err());
}

#[test]
fn templates_name_properties() {
    let object = Object { properties: [("Id".to_owned(), "sha256:1".to_owned())].into() };
    assert_eq!(format_with(".", &object).unwrap(), ".");
    assert_eq!(
        format_with("Image x exists\nImage Id: {{.Id}}", &object).unwrap(),
        "Image x exists\nImage Id: sha256:1"
    );
    assert_eq!(format_with("{{.Id", &object).unwrap_err().1, 64);
    let unknown = format_with("{{.Frob}}", &object).unwrap_err();
    assert!(
        unknown.0.ends_with("executing \"\" at <.Frob>: map has no entry for key \"Frob\""),
        "{unknown:?}"
    );
}

/// Calls `docker` with the board's own device behind it.
async fn call(bench: &Bench, line: &str) -> (u8, String, String) {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let socket = bench.socket();
    tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = match command(&args) {
            Ok(Line::Command { run, .. }) => {
                run(&mut Session { socket: &socket, board: "b".into(), out: &mut out, err: &mut err })
            }
            Ok(Line::Text(_)) => Ok(0),
            Err(ended) => Err(ended),
        };
        let (code, says) = match code {
            Ok(code) => (code, String::new()),
            Err(Ended(says, code)) => (code, says),
        };
        (code, text(out), text(err) + &says)
    })
    .await
    .unwrap()
}

/// As Docker 20.10.24 printed them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_missed_in_dockers_words() {
    let bench = Bench::start(BOARD).await;
    for (line, code, says) in [
        ("stop nope", 1, "Error response from daemon: No such container: nope"),
        ("rm nope", 1, "Error: No such container: nope"),
        ("rm -f nope", 0, "Error: No such container: nope"),
        ("exec nope ls", 1, "Error: No such container: nope"),
        ("inspect --format=. nope", 1, "Error: No such object: nope"),
        ("image inspect --format x nope", 1, "Error: No such image: nope"),
        ("pull UPPER", 1, "invalid reference format: repository name must be lowercase"),
        (
            "run UPPER",
            125,
            "docker: invalid reference format: repository name must be lowercase.\nSee 'docker run --help'.",
        ),
        (
            "run --cap-add FROB x",
            125,
            "docker: Error response from daemon: invalid CapAdd: unknown capability: \"CAP_FROB\".\n\
             See 'docker run --help'.",
        ),
        ("run --network nope x", 125, "docker: Error response from daemon: network nope not found."),
        ("run -it x", 1, "the input device is not a TTY"),
    ] {
        let (ended, _, err) = call(&bench, line).await;
        assert_eq!((ended, err.as_str()), (code, says), "{line}");
    }
}

#[tokio::test]
async fn the_call_is_noted_with_the_board_that_the_device_names() {
    let bench = Bench::start(BOARD).await;
    let asked = |device: &str| {
        let (socket, device) = (bench.socket(), device.to_owned());
        tokio::task::spawn_blocking(move || {
            let request =
                Request::Called { tool: "docker".into(), args: vec!["ps".into()], device: Some(device) };
            control::get::<Option<String>>(&socket, &request).unwrap()
        })
    };
    assert_eq!(asked("commands: {power_on: ghost power on b}").await.unwrap().as_deref(), Some("b"));
    assert_eq!(asked("commands: {power_on: ghost power on b-01}").await.unwrap(), None);
    assert!(bench.ledger().contains(&"tool docker ps".to_owned()), "{:?}", bench.ledger());
    assert_eq!(bench.call(&TOOL, "--version").await.code, 0);
}
