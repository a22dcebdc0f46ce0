//! The lab's VLANd, which LAVA's protocol `lava-vland` asks to move the boards' ports from one VLAN to another
//! (`lava_dispatcher/protocols/vland.py` up to 2026.03: JSON behind eight hexadecimal digits of its length, one question for
//! each connection to port 3080 of the worker).
//!
//! What it has and what it refuses is in VLANd's own documentation, "VLANd concepts": switches, ports that are known by switch
//! and number and have an id, which are locked or not and have a current VLAN and a base VLAN to go back to; VLANs that have
//! an id, a name and a tag of their own. Debian has no VLANd, so the wording of its refusals is ours, but for their form: a
//! `response` that is `ack` and has `data`, or `error`, is what LAVA reads. A question after something that is not there is
//! answered with nothing (`null`).
//!
//! A VLANd is there once for a lab, and its ids and tags depend on who came first. So that they are the same in each run, boards
//! that have a switch in common are a lab of their own, and a job's questions go to the lab of its board.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ledger::{Event, Ledger, VlanChange};
use crate::patience::{PATIENCE, after_failed_accept};
use crate::tools::caller;

/// Where LAVA looks for it (`read_settings`).
pub const PORT: u16 = 3080;

/// Longest question, as LAVA itself limits it (`poll`).
const QUESTION: usize = 0xFFFE;

/// The VLAN in which ports are until somebody moves them: its id, name and tag.
const BASE: (u64, &str, u16) = (1, "DEFAULT", 1);

/// The highest tag of a VLAN (IEEE 802.1Q, 9.6: 0xFFF is reserved).
const HIGHEST_TAG: u16 = 4094;

/// A port of a switch of the lab's, and a board's cable in it; in a board's file under `switch_ports`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchPort {
    /// The switch's name or address, as the lab's VLANd has it.
    pub switch: String,
    /// Its number there.
    pub port: u32,
    /// Whether the lab's administrator has locked it: nobody may move it then.
    #[serde(default)]
    pub locked: bool,
}

/// The VLANds of a worker, one for each lab. Cheap to clone.
#[derive(Clone, Default)]
pub struct Vland {
    labs: Arc<Vec<Mutex<Lab>>>,
}

/// A VLAN, but for its id.
#[derive(Clone, Debug)]
struct Vlan {
    name: String,
    tag: u16,
    /// Boards whose jobs have asked for its end.
    given_up_by: BTreeSet<String>,
}

/// A port, whose id is its place in the lab's list, from 1.
#[derive(Debug)]
struct Port {
    at: SwitchPort,
    board: String,
    /// The id of the VLAN that it is in.
    vlan: u64,
}

/// Boards that have switches in common, and what their VLANd knows.
#[derive(Default)]
struct Lab {
    boards: BTreeMap<String, Ledger>,
    /// Their names; the id of one is its place, from 1.
    switches: Vec<String>,
    ports: Vec<Port>,
    vlans: BTreeMap<u64, Vlan>,
    /// Those that were deleted.
    gone: BTreeMap<u64, Vlan>,
}

/// What can be asked, with the fields that LAVA sends. Who asks says twice what it is about, by the command's prefix and by
/// the question's type.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", content = "data")]
enum Command {
    #[serde(rename = "api.create_vlan")]
    Create { name: String, tag: i64, is_base_vlan: bool },
    #[serde(rename = "api.delete_vlan")]
    Delete { vlan_id: u64 },
    #[serde(rename = "api.set_current_vlan")]
    Set { port_id: u64, vlan_id: u64 },
    #[serde(rename = "api.restore_base_vlan")]
    Restore { port_id: u64 },
    #[serde(rename = "db.get_switch_id_by_name")]
    Switch { name: String },
    #[serde(rename = "db.get_port_by_switch_and_number")]
    Port { switch_id: u64, number: u32 },
}

/// What a question is about.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    VlanUpdate,
    DbQuery,
}

#[derive(Debug, Deserialize)]
struct Question {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(flatten)]
    command: Command,
}

fn lock(lab: &Mutex<Lab>) -> MutexGuard<'_, Lab> {
    lab.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Vland {
    /// For `boards`, each with the ports that its cables are in; those without any are nobody's business here.
    #[must_use]
    pub fn new(boards: impl IntoIterator<Item = (String, Vec<SwitchPort>, Ledger)>) -> Self {
        let mut labs: Vec<Lab> = Vec::new();
        for (board, ports, ledger) in boards {
            if ports.is_empty() {
                continue;
            }
            let shares = |lab: &mut Lab| ports.iter().any(|port| lab.switches.contains(&port.switch));
            let mut lab = Lab::default();
            // It may be the link between several.
            for other in labs.extract_if(.., shares) {
                lab.boards.extend(other.boards);
                lab.switches.extend(other.switches);
                lab.ports.extend(other.ports);
            }
            for port in ports {
                if !lab.switches.contains(&port.switch) {
                    lab.switches.push(port.switch.clone());
                }
                lab.ports.push(Port { at: port, board: board.clone(), vlan: BASE.0 });
            }
            lab.boards.insert(board, ledger);
            labs.push(lab);
        }
        labs.iter_mut().for_each(Lab::renew);
        Self { labs: Arc::new(labs.into_iter().map(Mutex::new).collect()) }
    }

    /// Whether there is anything to ask it about.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.labs.is_empty()
    }

    /// Makes the lab of `board` one that nothing happened to.
    pub fn renew(&self, board: &str) {
        if let Some(lab) = self.lab(|lab| lab.boards.contains_key(board)) {
            lock(lab).renew();
        }
    }

    /// Answers on `listener`, for ever. `named_in` finds the board that a device of LAVA's is.
    pub async fn listen(
        self,
        listener: TcpListener,
        named_in: impl Fn(&str) -> Option<String> + Send + Sync,
    ) {
        let named_in = &named_in;
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    let answered = tokio::time::timeout(PATIENCE, self.answer(stream, client, named_in));
                    match answered.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::warn!(%error, "a question to VLANd broke"),
                        Err(_) => tracing::warn!("nobody asked VLANd anything in {PATIENCE:?}"),
                    }
                }
                Err(error) => after_failed_accept("VLANd's", &error).await,
            }
        }
    }

    /// Answers one question.
    async fn answer(
        &self,
        mut stream: TcpStream,
        client: SocketAddr,
        named_in: &(impl Fn(&str) -> Option<String> + Sync),
    ) -> io::Result<()> {
        let mut length = [0; 8];
        stream.read_exact(&mut length).await?;
        let length = length_of(&length).map_err(io::Error::other)?;
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        let server = stream.local_addr()?;
        let device = tokio::task::spawn_blocking(move || caller::device_at(client, server));
        let board = device.await.map_err(io::Error::other)?.and_then(|device| named_in(&device));
        let answer = match board {
            Some(board) => self.asked(&board, &question),
            None => Err("it is no job of a board's that asks".to_owned()),
        };
        let answer = match answer {
            Ok(data) => json!({"response": "ack", "data": data}),
            Err(error) => json!({"response": "error", "error": error}),
        };
        let answer = answer.to_string();
        stream.write_all(format!("{:08x}{answer}", answer.len()).as_bytes()).await
    }

    /// The answer to a `question` of the job of `board`, or why it is refused. What is refused is a violation in the ledger of that
    /// board.
    fn asked(&self, board: &str, question: &[u8]) -> Result<Value, String> {
        let Some(lab) = self.lab(|lab| lab.boards.contains_key(board)) else {
            return Err(format!("no cable of {board} is in a switch"));
        };
        let mut lab = lock(lab);
        let answer = read(question).and_then(|command| lab.does(board, command));
        answer.map_err(|refusal| match refusal {
            Refusal::Expected(why) => why,
            Refusal::Violation(why) => {
                if let Some(ledger) = lab.boards.get(board) {
                    ledger.violation("vland-refused", &why);
                }
                why
            }
        })
    }

    fn lab(&self, is: impl Fn(&Lab) -> bool) -> Option<&Mutex<Lab>> {
        self.labs.iter().find(|lab| is(&lock(lab)))
    }
}

/// Why VLANd does not do something.
enum Refusal {
    /// LAVA could not have meant it.
    Violation(String),
    /// LAVA asks without knowing whether it can be done.
    Expected(String),
}

fn refused<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Violation(why.into()))
}

/// The length of a question by the digits in front of it.
fn length_of(digits: &[u8; 8]) -> Result<usize, String> {
    let number = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match number {
        Some(length) if length <= QUESTION => Ok(length),
        Some(length) => Err(format!("a question of {length} bytes, the most is {QUESTION}")),
        None => Err(format!("{} is no length in hexadecimal digits", digits.escape_ascii())),
    }
}

fn read(question: &[u8]) -> Result<Command, Refusal> {
    let Question { kind, command } = match serde_json::from_slice(question) {
        Ok(question) => question,
        Err(error) => return refused(format!("not a command with its data: {error}")),
    };
    let should = match command {
        Command::Switch { .. } | Command::Port { .. } => Kind::DbQuery,
        _ => Kind::VlanUpdate,
    };
    if kind == should { Ok(command) } else { refused(format!("a question of type {kind:?}, not {should:?}")) }
}

impl Lab {
    fn renew(&mut self) {
        let (id, name, tag) = BASE;
        self.gone.clear();
        self.vlans =
            BTreeMap::from([(id, Vlan { name: name.to_owned(), tag, given_up_by: BTreeSet::new() })]);
        for port in &mut self.ports {
            port.vlan = id;
        }
    }

    fn does(&mut self, board: &str, command: Command) -> Result<Value, Refusal> {
        match command {
            Command::Create { name, tag, is_base_vlan } => self.create(board, name, tag, is_base_vlan),
            Command::Delete { vlan_id } => self.delete(board, vlan_id),
            Command::Set { port_id, vlan_id } => self.set(port_id, vlan_id),
            Command::Restore { port_id } => self.set(port_id, BASE.0),
            Command::Switch { name } => Ok(json!(self.place(&name))),
            Command::Port { switch_id, number } => {
                let is =
                    |port: &Port| port.at.port == number && self.place(&port.at.switch) == Some(switch_id);
                Ok(json!(self.ports.iter().position(is).map(|place| place + 1)))
            }
        }
    }

    /// The id of a switch.
    fn place(&self, name: &str) -> Option<u64> {
        let place = self.switches.iter().position(|switch| switch == name)?;
        u64::try_from(place + 1).ok()
    }

    fn create(&mut self, board: &str, name: String, tag: i64, is_base: bool) -> Result<Value, Refusal> {
        if is_base {
            return refused(format!(
                "VLAN {name} is to be a base VLAN, which is the administrator's to make"
            ));
        }
        if name.is_empty() || self.vlans.values().any(|vlan| vlan.name == name) {
            return refused(format!("there is a VLAN of the name {name:?} already"));
        }
        let is_free = |tag: &u16| self.vlans.values().all(|vlan| vlan.tag != *tag);
        let tag = match tag {
            // The lowest that is free.
            -1 => (1..=HIGHEST_TAG).find(is_free),
            _ => u16::try_from(tag).ok().filter(|tag| (1..=HIGHEST_TAG).contains(tag) && is_free(tag)),
        };
        let Some(tag) = tag else {
            return refused(format!(
                "VLAN {name} can't have that tag: it is in use, or none of 1 to {HIGHEST_TAG}"
            ));
        };
        // An id is never used again.
        let id = self.vlans.keys().chain(self.gone.keys()).max().map_or(1, |highest| highest + 1);
        self.note(board, &name, VlanChange::Created { tag });
        self.vlans.insert(id, Vlan { name, tag, given_up_by: BTreeSet::new() });
        Ok(json!([id, tag]))
    }

    /// Each job of a group asks for the end of its VLANs (`finalise_protocol`), and one alone has it: before, ports of others are
    /// in them, and later they are gone. Which job that is is left to chance; so the ledger of each board has that its job has
    /// asked, and, once it is true, that the VLAN is gone.
    fn delete(&mut self, board: &str, id: u64) -> Result<Value, Refusal> {
        if id == BASE.0 {
            return refused("the base VLAN stays");
        }
        if let Some(name) = self.gone.get(&id).map(|vlan| vlan.name.clone()) {
            self.note(board, &name, VlanChange::GivenUp);
            self.note(board, &name, VlanChange::Deleted);
            return Err(Refusal::Expected(format!("there is no VLAN {name} any more")));
        }
        let Some(vlan) = self.vlans.get_mut(&id) else {
            return refused(format!("there is no VLAN with the id {id}"));
        };
        vlan.given_up_by.insert(board.to_owned());
        let vlan = vlan.clone();
        self.note(board, &vlan.name, VlanChange::GivenUp);
        if self.ports.iter().any(|port| port.vlan == id) {
            return Err(Refusal::Expected(format!("VLAN {} has ports", vlan.name)));
        }
        self.vlans.remove(&id);
        for board in &vlan.given_up_by {
            self.note(board, &vlan.name, VlanChange::Deleted);
        }
        self.gone.insert(id, vlan);
        Ok(Value::Null)
    }

    fn set(&mut self, port_id: u64, vlan_id: u64) -> Result<Value, Refusal> {
        let Some(vlan) = self.vlans.get(&vlan_id).map(|vlan| vlan.name.clone()) else {
            return refused(format!("there is no VLAN with the id {vlan_id}"));
        };
        let place = usize::try_from(port_id).ok().and_then(|id| id.checked_sub(1));
        let Some(port) = place.and_then(|place| self.ports.get_mut(place)) else {
            return refused(format!("there is no port with the id {port_id}"));
        };
        let SwitchPort { switch, port: number, locked } = port.at.clone();
        if locked {
            return refused(format!("port {number} of switch {switch} is locked"));
        }
        port.vlan = vlan_id;
        let board = port.board.clone();
        self.note(&board, &vlan, VlanChange::Port { switch, port: number });
        Ok(Value::Null)
    }

    fn note(&self, board: &str, vlan: &str, change: VlanChange) {
        if let Some(ledger) = self.boards.get(board) {
            ledger.take(Event::Vlan { vlan: vlan.to_owned(), change });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Entry;

    /// A switch, the number of a port of it, and whether that is locked.
    type Cable = (&'static str, u32, bool);

    /// Boards with their cables, and their ledgers.
    struct Bench {
        dir: tempfile::TempDir,
        vland: Vland,
    }

    impl Bench {
        fn new(boards: &[(&str, &[Cable])]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let of = |(board, ports): &(&str, &[Cable])| {
                let ports = ports.iter().map(|&(switch, port, locked)| SwitchPort {
                    switch: switch.to_owned(),
                    port,
                    locked,
                });
                let ledger = Ledger::open(&dir.path().join(board)).unwrap();
                ((*board).to_owned(), ports.collect(), ledger)
            };
            let vland = Vland::new(boards.iter().map(of));
            Self { dir, vland }
        }

        /// Two boards with a switch in common; a port of the second is locked.
        fn two() -> Self {
            Self::new(&[("a", &[("s", 7, false)]), ("b", &[("s", 8, false), ("s", 9, true)])])
        }

        fn asks(&self, board: &str, kind: &str, command: &str, data: Value) -> Result<Value, String> {
            let question =
                json!({"port": PORT, "client_name": "w", "type": kind, "command": command, "data": data});
            self.vland.asked(board, question.to_string().as_bytes())
        }

        fn updates(&self, board: &str, command: &str, data: Value) -> Result<Value, String> {
            self.asks(board, "vlan_update", command, data)
        }

        fn creates(&self, board: &str, name: &str, tag: i64) -> Result<Value, String> {
            self.updates(board, "api.create_vlan", json!({"name": name, "tag": tag, "is_base_vlan": false}))
        }

        fn moves(&self, board: &str, port: u64, vlan: u64) -> Result<Value, String> {
            self.updates(board, "api.set_current_vlan", json!({"port_id": port, "vlan_id": vlan}))
        }

        fn ends(&self, board: &str, port: u64, vlan: u64) {
            let _ = self.updates(board, "api.restore_base_vlan", json!({"port_id": port}));
            let _ = self.updates(board, "api.delete_vlan", json!({"vlan_id": vlan}));
        }

        fn ledger(&self, board: &str) -> Vec<String> {
            let text = std::fs::read_to_string(self.dir.path().join(board)).unwrap();
            let event = |line| match serde_json::from_str::<Entry>(line).unwrap().event {
                Event::Vlan { vlan, change } => format!("{vlan} {change}"),
                Event::Violation { what, detail } => format!("{what}: {detail}"),
                other => format!("{other:?}"),
            };
            text.lines().map(event).collect()
        }
    }

    #[test]
    fn a_switch_and_a_port_are_found_by_name_and_number_or_are_nothing() {
        let bench = Bench::two();
        let switch =
            |name: &str| bench.asks("a", "db_query", "db.get_switch_id_by_name", json!({"name": name}));
        let port = |switch: u64, number: u32| {
            let data = json!({"switch_id": switch, "number": number});
            bench.asks("a", "db_query", "db.get_port_by_switch_and_number", data)
        };
        assert_eq!((switch("s"), switch("t")), (Ok(json!(1)), Ok(Value::Null)));
        assert_eq!((port(1, 8), port(1, 6), port(2, 8)), (Ok(json!(2)), Ok(Value::Null), Ok(Value::Null)));
        assert!(bench.ledger("a").is_empty());
    }

    #[test]
    fn a_vlan_gets_the_lowest_tag_that_is_free_or_the_one_that_is_asked_for() {
        let bench = Bench::two();
        assert_eq!(bench.creates("a", "x", -1), Ok(json!([2, 2])));
        assert_eq!(bench.creates("a", "y", 4094), Ok(json!([3, 4094])));
        assert_eq!(bench.creates("b", "z", -1), Ok(json!([4, 3])));
        assert_eq!(bench.ledger("a"), ["x created, with tag 2", "y created, with tag 4094"]);
        assert_eq!(bench.ledger("b"), ["z created, with tag 3"]);
    }

    #[test]
    fn what_a_name_or_a_tag_has_already_is_refused_and_so_is_a_tag_that_is_none() {
        let bench = Bench::two();
        assert!(bench.creates("a", "x", 7).is_ok());
        assert!(bench.creates("b", "x", -1).unwrap_err().contains("of the name \"x\" already"));
        for tag in [7, 1, 0, 4095, -2, i64::MAX] {
            assert!(bench.creates("a", "y", tag).unwrap_err().contains("can't have that tag"), "{tag}");
        }
        let base = json!({"name": "y", "tag": -1, "is_base_vlan": true});
        assert!(bench.updates("a", "api.create_vlan", base).unwrap_err().contains("base VLAN"));
        assert_eq!(bench.ledger("b"), [r#"vland-refused: there is a VLAN of the name "x" already"#]);
    }

    #[test]
    fn a_port_goes_into_a_vlan_and_back_and_its_board_has_that_whoever_asks() {
        let bench = Bench::two();
        bench.creates("a", "x", -1).unwrap();
        bench.moves("a", 2, 2).unwrap();
        bench.updates("a", "api.restore_base_vlan", json!({"port_id": 2})).unwrap();
        assert_eq!(bench.ledger("b"), ["x has port 8 of switch s", "DEFAULT has port 8 of switch s"]);
    }

    #[test]
    fn a_port_that_is_locked_or_is_not_there_stays_where_it_is() {
        let bench = Bench::two();
        bench.creates("b", "x", -1).unwrap();
        assert!(bench.moves("b", 3, 2).unwrap_err().contains("port 9 of switch s is locked"));
        assert!(bench.moves("b", 4, 2).unwrap_err().contains("no port with the id 4"));
        assert!(bench.moves("b", 1, 3).unwrap_err().contains("no VLAN with the id 3"));
        let nothing = json!({"port_id": null, "vlan_id": 2});
        assert!(bench.updates("b", "api.set_current_vlan", nothing).unwrap_err().contains("null"));
        assert_eq!(bench.ledger("b").iter().filter(|line| line.starts_with("vland-refused")).count(), 4);
        assert!(bench.ledger("a").is_empty());
    }

    #[test]
    fn a_vlan_is_gone_when_its_last_port_is_and_each_board_whose_job_has_asked_has_that() {
        // Whoever is the last, and whether both are at it at once.
        let one_after_the_other: [&[(&str, bool)]; 3] = [
            &[("a", false), ("a", true), ("b", false), ("b", true)],
            &[("b", false), ("b", true), ("a", false), ("a", true)],
            &[("a", false), ("b", false), ("b", true), ("a", true)],
        ];
        for order in one_after_the_other {
            let bench = Bench::two();
            bench.creates("a", "x", -1).unwrap();
            bench.moves("a", 1, 2).unwrap();
            bench.moves("b", 2, 2).unwrap();
            for &(board, deletes) in order {
                let port = if board == "a" { 1 } else { 2 };
                let _ = match deletes {
                    false => bench.updates(board, "api.restore_base_vlan", json!({"port_id": port})),
                    true => bench.updates(board, "api.delete_vlan", json!({"vlan_id": 2})),
                };
            }
            let end = ["x given up", "x deleted"];
            assert_eq!(bench.ledger("a")[3..], end, "{order:?}");
            assert_eq!(bench.ledger("b")[2..], end, "{order:?}");
        }
    }

    #[test]
    fn a_vlan_with_a_port_stays_and_so_does_the_base() {
        let bench = Bench::two();
        bench.creates("a", "x", -1).unwrap();
        bench.moves("b", 2, 2).unwrap();
        let delete = |id: u64| bench.updates("a", "api.delete_vlan", json!({"vlan_id": id})).unwrap_err();
        assert!(delete(2).contains("VLAN x has ports"));
        assert!(delete(1).contains("stays"));
        assert!(delete(9).contains("no VLAN with the id 9"));
        assert_eq!(bench.ledger("a")[1], "x given up");
        assert!(!bench.ledger("a").contains(&"x deleted".to_owned()));
    }

    #[test]
    fn boards_without_a_switch_in_common_know_nothing_of_each_other() {
        let bench = Bench::new(&[
            ("a", &[("s", 1, false)]),
            ("b", &[("t", 1, false)]),
            ("c", &[("t", 2, false), ("u", 1, false)]),
            ("d", &[]),
        ]);
        assert_eq!(bench.creates("a", "x", -1), Ok(json!([2, 2])));
        assert_eq!(bench.creates("b", "x", -1), Ok(json!([2, 2])));
        assert_eq!(bench.creates("c", "y", -1), Ok(json!([3, 3])));
        assert!(bench.creates("d", "x", -1).unwrap_err().contains("no cable of d"));
        assert!(Bench::new(&[("d", &[])]).vland.is_idle());
    }

    #[test]
    fn a_lab_that_is_renewed_has_no_vlans_and_counts_anew() {
        let bench = Bench::two();
        bench.creates("a", "x", -1).unwrap();
        bench.moves("b", 2, 2).unwrap();
        bench.vland.renew("a");
        assert!(bench.moves("b", 2, 2).is_err());
        assert_eq!(bench.creates("b", "x", -1), Ok(json!([2, 2])));
        bench.ends("b", 2, 2);
        assert!(bench.ledger("b").contains(&"x deleted".to_owned()));
    }

    #[test]
    fn a_question_says_truly_what_it_is_about() {
        let bench = Bench::two();
        let data = json!({"name": "s"});
        assert!(bench.asks("a", "vlan_update", "db.get_switch_id_by_name", data.clone()).is_err());
        assert!(bench.asks("a", "db_query", "db.get_vlan_by_name", data.clone()).is_err());
        assert!(bench.asks("a", "console", "db.get_switch_id_by_name", data).is_err());
    }

    #[tokio::test]
    async fn one_who_is_no_job_is_told_so_in_the_form_that_lava_reads() {
        let bench = Bench::two();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let daemon = tokio::spawn(bench.vland.clone().listen(listener, |_| None));
        for question in ["xxxxxxxx{}", "0000ffff", "00000002{}"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(question.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            // One that makes no sense is cut off, with what was not read.
            let _ = stream.read_to_string(&mut answer).await;
            if question.ends_with("2{}") {
                let (length, answer) = answer.split_at(8);
                assert_eq!(usize::from_str_radix(length, 16).unwrap(), answer.len());
                let answer: Value = serde_json::from_str(answer).unwrap();
                assert_eq!(answer["response"], "error");
                assert!(answer["error"].as_str().unwrap().contains("no job"));
            } else {
                assert_eq!(answer, "");
            }
        }
        daemon.abort();
    }

    proptest! {
        #[test]
        fn any_question_is_answered_or_refused(question in prop::collection::vec(any::<u8>(), 0..200)) {
            let bench = Bench::two();
            let _ = bench.vland.asked("a", &question);
        }

        #[test]
        fn any_length_is_a_length_or_an_error(digits in any::<[u8; 8]>()) {
            prop_assert!(length_of(&digits).is_ok_and(|length| length <= QUESTION) || length_of(&digits).is_err());
        }
    }
}
