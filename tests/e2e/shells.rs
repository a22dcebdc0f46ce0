//! Completions as a user meets them: in a real shell on a terminal, by the tab key.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::repository::Repository;
use crate::tool::{DEADLINE, call, meta_lava};

/// What the prompt is made, in two parts, so that the line which sets it does not look like it.
const PROMPT: &str = "READY:";

/// A shell on a terminal, with this program on its `PATH` and a repository of its own.
struct Shell {
    child: Child,
    heard: Receiver<Vec<u8>>,
    text: String,
    _repository: Repository,
}

impl Shell {
    /// Starts it, and has it run `setup`.
    fn start(shell: &str, setup: &str) -> Self {
        let repository = Repository::new();
        let program = Path::new(env!("CARGO_BIN_EXE_meta-lava"));
        let path = std::env::var("PATH").unwrap();
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", shell, "/dev/null"])
            .env("PATH", format!("{}:{path}", program.parent().unwrap().display()))
            .env("META_LAVA_ROOT", repository.root())
            .env("HOME", repository.temporary())
            .env("TERM", "dumb")
            .env_remove("INPUTRC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut shell = Self { child, heard, text: String::new(), _repository: repository };
        shell.types(&format!("{setup}\n"));
        shell.hears(PROMPT);
        shell
    }

    fn types(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it has printed `words`; all until there.
    #[track_caller]
    fn hears(&mut self, words: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.text.find(words) {
                let end = at + words.len();
                return self.text.drain(..end).collect();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(left.max(Duration::from_millis(1))) {
                Ok(more) => self.text.push_str(&String::from_utf8_lossy(&more)),
                Err(why) => panic!("it never printed {words:?} ({why}) but: {:?}", self.text),
            }
        }
    }

    /// The words that are in the line once `typed` was, the tab key last, and then `rest`.
    #[track_caller]
    fn completes(&mut self, typed: &str, rest: &str) -> Vec<String> {
        // Ctrl-A goes to the line's begin. What is printed is told from what is echoed by its
        // brackets.
        self.types(&format!("{typed}\t{rest}\u{1}printf '<%s>' \n"));
        self.hears("<meta-lava>");
        let line = self.hears(PROMPT);
        let words = line.split('<').skip(1).filter_map(|word| word.split_once('>'));
        words.map(|(word, _)| word.to_owned()).collect()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What any shell must make of the tab key.
#[track_caller]
fn completes_all(shell: &mut Shell) {
    assert_eq!(shell.completes("meta-lava doc", ""), ["doctor"]);
    assert_eq!(shell.completes("meta-lava run --part", "slice:1/2"), ["run", "--partition", "slice:1/2"]);
    assert_eq!(shell.completes("meta-lava list --format j", ""), ["list", "--format", "json"]);
    assert_eq!(shell.completes("meta-lava run juno x1", ""), ["run", "juno", "x15"]);
    assert_eq!(shell.completes("meta-lava show health-checks/x1", ""), ["show", "health-checks/x15"]);
    assert_eq!(shell.completes("meta-lava run --suite feat", ""), ["run", "--suite", "features"]);
    assert_eq!(
        // Where only one thing fits, the quote is closed, too.
        shell.completes("meta-lava run -E 'suite(health-checks) & firmware(u-b", ""),
        ["run", "-E", "suite(health-checks) & firmware(u-boot)"]
    );
}

#[test]
fn bash_completes_what_the_repository_has() {
    let setup = "source <(meta-lava completions bash); bind 'set enable-bracketed-paste off'; PS1='READ''Y:'";
    let mut shell = Shell::start("bash --norc --noprofile", setup);
    completes_all(&mut shell);
    // Bash takes `=` for the end of a word, and a parenthesis for its own.
    assert_eq!(shell.completes("meta-lava run --suite=feat", ""), ["run", "--suite=features"]);
    assert_eq!(shell.completes("meta-lava run -E firmw", "u-boot)'"), ["run", "-E", "firmware(u-boot)"]);
}

#[test]
#[ignore = "takes zsh: .ci/run test"]
fn zsh_completes_what_the_repository_has() {
    let setup = "bindkey -e; autoload -Uz compinit; compinit -u -D; \
                 source <(meta-lava completions zsh); unsetopt prompt_sp prompt_cr; PS1='READ''Y:'";
    completes_all(&mut Shell::start("zsh -f", setup));
}

#[test]
#[ignore = "takes fish: .ci/run test"]
fn fish_completes_what_the_repository_has() {
    let repository = Repository::new();
    let program = Path::new(env!("CARGO_BIN_EXE_meta-lava"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let of = |line: &str| {
        let script = format!("meta-lava completions fish | source; complete --do-complete \"{line}\"");
        let output = Command::new("fish")
            .args(["--no-config", "--command", &script])
            .env("PATH", &path)
            .env("META_LAVA_ROOT", repository.root())
            .env("HOME", repository.temporary())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned());
        words.collect::<Vec<_>>()
    };
    assert_eq!(of("meta-lava doc"), ["doctor"]);
    assert_eq!(of("meta-lava run --part"), ["--partition"]);
    assert_eq!(of("meta-lava list --format j"), ["json"]);
    assert_eq!(of("meta-lava run juno x1"), ["x15"]);
    assert_eq!(of("meta-lava show health-checks/x1"), ["health-checks/x15"]);
    assert_eq!(of("meta-lava run --suite feat"), ["features"]);
    assert_eq!(
        of("meta-lava run -E 'suite(health-checks) & firmware(u-b"),
        ["suite(health-checks) & firmware(u-boot)"]
    );
}

#[test]
fn a_shell_is_told_nothing_where_there_is_nothing_to_choose_from() {
    let repository = Repository::new();
    let ended =
        call(meta_lava(&repository).env("META_LAVA_COMPLETE", "bash").args(["meta-lava run zzz", "zzz"]));
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
}
