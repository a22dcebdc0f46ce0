//! The engine as the `docker` command shows it: another view than the one of the
//! program under test.

use std::process::Command;

/// What `docker` prints, by words; it must succeed.
#[track_caller]
pub fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().expect("the `docker` command");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// All that has the label of a run.
pub fn objects_of(run: &str) -> Vec<String> {
    let label = format!("label=meta-lava.run={run}");
    let mut found = docker(&["ps", "--all", "--quiet", "--filter", &label]);
    found.extend(docker(&["network", "ls", "--quiet", "--filter", &label]));
    found.extend(docker(&["volume", "ls", "--quiet", "--filter", &label]));
    found
}

/// The container of a service of a run.
#[track_caller]
pub fn container(run: &str, service: &str) -> String {
    let run = format!("label=meta-lava.run={run}");
    let service = format!("label=com.docker.compose.service={service}");
    let found = docker(&["ps", "--quiet", "--filter", &run, "--filter", &service]);
    assert_eq!(found.len(), 1, "{service}");
    found.into_iter().next().unwrap()
}

/// Runs a shell command in a container.
#[track_caller]
pub fn shell(container: &str, command: &str) -> Vec<String> {
    docker(&["exec", container, "sh", "-c", command])
}

/// The volumes of a run's containers; the nameless ones have no label.
pub fn volumes_of(run: &str) -> Vec<String> {
    let label = format!("label=meta-lava.run={run}");
    let format = "{{range .Mounts}}{{.Name}} {{end}}";
    docker(&["ps", "--all", "--quiet", "--filter", &label])
        .iter()
        // One that goes away meanwhile has none.
        .flat_map(|id| Command::new("docker").args(["inspect", "--format", format, id]).output())
        .flat_map(|output| {
            let names = String::from_utf8_lossy(&output.stdout).into_owned();
            names.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Processes that have a run's name on their command line.
pub fn processes_of(run: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy() != own)
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|cmdline| String::from_utf8_lossy(&cmdline).replace('\0', " "))
        .filter(|cmdline| cmdline.contains(run))
        .collect()
}

/// Nothing of a run is left: neither on the engine nor of its processes.
#[track_caller]
pub fn assert_nothing_left(run: &str, volumes: &[String]) {
    assert_eq!(objects_of(run), [""; 0], "left on the engine");
    let known = docker(&["volume", "ls", "--quiet"]);
    let left: Vec<&String> = volumes.iter().filter(|volume| known.contains(volume)).collect();
    assert!(left.is_empty(), "volumes are left: {left:?}");
    assert_eq!(processes_of(run), [""; 0], "processes are left");
}
