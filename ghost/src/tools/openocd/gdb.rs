//! OpenOCD's server for GDB, with `gdb_port pipe`: on its standard input and output, as GDB's `target remote | openocd …` wants it.
//!
//! The protocol is the crate `gdbstub`'s. What a client is told, and in which order, is OpenOCD 0.12's (`src/server/gdb_server.c`,
//! `src/target/armv7m.c`): the core is halted when GDB comes, `monitor` is any command of OpenOCD's, whose words come by GDB and by
//! standard error, and what GDB's `load` sends is written to the flash when it is done.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gdbstub::arch::{Arch, Registers};
use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine as State;
use gdbstub::stub::{GdbStub, SingleThreadStopReason};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{SingleThreadBase, SingleThreadResume, SingleThreadResumeOps};
use gdbstub::target::ext::flash::{Flash, FlashOps};
use gdbstub::target::ext::memory_map::{MemoryMap, MemoryMapOps};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::Session;

/// What OpenOCD answers where memory can't be had (`gdb_error`): EFAULT.
const FAULT: u8 = 14;

/// Registers of a Cortex-M as GDB counts them, by number: r0 to r12, sp, lr, pc, xPSR.
const REGISTERS: usize = 17;
const SP: usize = 13;
const PC: usize = 15;
const XPSR: usize = 16;

/// Where the flash is and how large, in bytes.
struct Bank {
    start: u32,
    size: u32,
}

/// Serves GDB until it goes.
pub(super) fn serve(
    session: &mut Session<'_, '_>,
    mut input: impl Read,
    output: impl Write,
) -> Result<(), String> {
    let bank = bank(session)?;
    let target = session.target();
    session.say(&format!("Info : starting gdb server for {target} on pipe\n"));
    session.say("Info : accepting 'gdb' connection from pipe\n");
    // `gdb-attach` (`src/target/startup.tcl`).
    session.halt("halt")?;
    let mut core =
        Core { session, bank, registers: [0; REGISTERS], is_read: false, is_set: false, written: Vec::new() };
    let broken = |error: &dyn std::fmt::Display| format!("Error: gdb: {error}");
    let stub = GdbStub::new(Pipe { output, answer: Vec::new() });
    let mut state = stub.run_state_machine(&mut core).map_err(|error| broken(&error))?;
    loop {
        let mut byte = [0];
        let next = match state {
            State::Idle(stub) => match input.read_exact(&mut byte) {
                Ok(()) => stub.incoming_data(&mut core, byte[0]),
                Err(_gone) => break,
            },
            // The program runs on and on, until GDB says something.
            State::Running(stub) => match input.read_exact(&mut byte) {
                Ok(()) => stub.incoming_data(&mut core, byte[0]),
                Err(_gone) => break,
            },
            State::CtrlCInterrupt(stub) => {
                core.session.halt("halt")?;
                stub.interrupt_handled(&mut core, Some(SingleThreadStopReason::Signal(Signal::SIGINT)))
            }
            State::Disconnected(_) => break,
        };
        state = next.map_err(|error| broken(&error))?;
    }
    core.session.say("Info : dropped 'gdb' connection\n");
    Ok(())
}

fn bank(session: &Session) -> Result<Bank, String> {
    let told = session.ask("bank", None)?;
    let words: Vec<u32> = told.split(' ').filter_map(|word| u32::from_str_radix(word, 16).ok()).collect();
    match *words.as_slice() {
        [start, size] => Ok(Bank { start, size }),
        _ => Err(format!("Error: the board says of its flash {told:?}, which is no address and no size")),
    }
}

/// The core behind the probe.
struct Core<'s, 'a, 'c> {
    session: &'s mut Session<'a, 'c>,
    bank: Bank,
    registers: [u32; REGISTERS],
    /// Whether they are those of the core: they are read when somebody asks.
    is_read: bool,
    /// Whether GDB has set them since the core was halted.
    is_set: bool,
    /// What GDB has sent for the flash, piece by piece.
    written: Vec<(u32, Vec<u8>)>,
}

impl Core<'_, '_, '_> {
    fn read(&mut self) -> Result<(), TargetError<String>> {
        if !self.is_read {
            let (sp, pc) = self.session.stack_and_program().map_err(TargetError::Fatal)?;
            self.registers = [0; REGISTERS];
            (self.registers[SP], self.registers[PC], self.registers[XPSR]) = (sp, pc, 1 << 24);
            self.is_read = true;
        }
        Ok(())
    }
}

impl Target for Core<'_, '_, '_> {
    type Arch = CortexM;
    type Error = String;

    fn base_ops(&mut self) -> BaseOps<'_, CortexM, String> {
        BaseOps::SingleThread(self)
    }

    /// The board runs on by itself: nobody sets a breakpoint in it.
    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }

    /// OpenOCD sends no run-length encoding.
    fn use_rle(&self) -> bool {
        false
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    fn support_memory_map(&mut self) -> Option<MemoryMapOps<'_, Self>> {
        Some(self)
    }

    fn support_flash_operations(&mut self) -> Option<FlashOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Core<'_, '_, '_> {
    fn read_registers(&mut self, registers: &mut CoreRegisters) -> TargetResult<(), Self> {
        self.read()?;
        registers.0 = self.registers;
        Ok(())
    }

    fn write_registers(&mut self, registers: &CoreRegisters) -> TargetResult<(), Self> {
        self.registers = registers.0;
        (self.is_read, self.is_set) = (true, true);
        Ok(())
    }

    fn read_addrs(&mut self, start: u32, data: &mut [u8]) -> TargetResult<usize, Self> {
        let told = self.session.ask(&format!("read {start:x} {:x}", data.len()), None);
        let bytes = told.ok().and_then(|told| STANDARD.decode(told).ok());
        match bytes.filter(|bytes| bytes.len() == data.len()) {
            Some(bytes) => data.copy_from_slice(&bytes),
            None => return Err(TargetError::Errno(FAULT)),
        }
        Ok(data.len())
    }

    fn write_addrs(&mut self, start: u32, data: &[u8]) -> TargetResult<(), Self> {
        // GDB asks whether this can be done at all by writing nothing.
        if data.is_empty() {
            return Ok(());
        }
        let written = self.session.send(&format!("write {start:x}"), data);
        written.map(drop).map_err(|_| TargetError::Errno(FAULT))
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadResume for Core<'_, '_, '_> {
    fn resume(&mut self, _signal: Option<Signal>) -> Result<(), String> {
        let command = match self.is_set {
            true => format!("run {:x}", self.registers[PC]),
            false => "run".into(),
        };
        (self.is_read, self.is_set) = (false, false);
        // GDB is not told that there is no core any more: the program is waited for.
        if let Err(why) = self.session.ask(&command, None) {
            self.session.say(&format!("{why}\n"));
        }
        Ok(())
    }
}

impl MonitorCmd for Core<'_, '_, '_> {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), String> {
        (self.is_read, self.is_set) = (false, false);
        let before = self.session.said.len();
        if let Err(why) = self.session.command(&String::from_utf8_lossy(command)) {
            self.session.say(&format!("{why}\n"));
        }
        // It comes by both ways, and is not told from what went well.
        let said = self.session.said.get(before..).unwrap_or_default();
        let _ = out.write_str(said);
        Ok(())
    }
}

impl MemoryMap for Core<'_, '_, '_> {
    /// The flash, and memory wherever there is none (`gdb_memory_map`).
    fn memory_map_xml(&self, offset: u64, length: usize, buffer: &mut [u8]) -> TargetResult<usize, Self> {
        let Bank { start, size } = self.bank;
        let end = u64::from(start) + u64::from(size);
        let mut map = String::from("<memory-map>\n");
        let mut ram = |from: u64, to: u64| {
            if to > from {
                let _ = writeln!(
                    map,
                    "<memory type=\"ram\" start=\"{from:#010x}\" length=\"{:#010x}\"/>",
                    to - from
                );
            }
        };
        ram(0, start.into());
        ram(end, 1 << 32);
        let _ = writeln!(
            map,
            "<memory type=\"flash\" start=\"{start:#010x}\" length=\"{size:#010x}\">\n\
             <property name=\"blocksize\">{BLOCK:#x}</property>\n</memory>\n</memory-map>"
        );
        let rest =
            usize::try_from(offset).ok().and_then(|offset| map.as_bytes().get(offset..)).unwrap_or_default();
        let size = rest.len().min(length).min(buffer.len());
        buffer[..size].copy_from_slice(&rest[..size]);
        Ok(size)
    }
}

/// What the flash is erased by, in bytes: 2 KiB, as of an STM32L4 and a CC3220SF.
const BLOCK: u32 = 0x800;

impl Flash for Core<'_, '_, '_> {
    fn flash_erase(&mut self, start: u32, length: u32) -> TargetResult<(), Self> {
        let done = self.session.ask(&format!("erase {start:x} {length:x}"), None);
        done.map(drop).map_err(|_| TargetError::Errno(FAULT))
    }

    fn flash_write(&mut self, start: u32, data: &[u8]) -> TargetResult<(), Self> {
        match self.written.last_mut() {
            // GDB cuts at what a packet takes.
            Some((at, bytes)) if u64::from(*at) + bytes.len() as u64 == u64::from(start) => {
                bytes.extend_from_slice(data);
            }
            _ => self.written.push((start, data.to_vec())),
        }
        Ok(())
    }

    fn flash_done(&mut self) -> TargetResult<(), Self> {
        for (start, bytes) in std::mem::take(&mut self.written) {
            if let Err(why) = self.session.send(&format!("write {start:x}"), &bytes) {
                self.session.say(&format!("{why}\n"));
                return Err(TargetError::Errno(FAULT));
            }
        }
        Ok(())
    }
}

/// A Cortex-M.
enum CortexM {}

impl Arch for CortexM {
    type Usize = u32;
    type Registers = CoreRegisters;
    type BreakpointKind = usize;
    type RegId = ();

    fn target_description_xml() -> Option<&'static str> {
        Some(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n\
             <architecture>arm</architecture>\n<feature name=\"org.gnu.gdb.arm.m-profile\">\n\
             <reg name=\"r0\" bitsize=\"32\"/>\n<reg name=\"r1\" bitsize=\"32\"/>\n<reg name=\"r2\" bitsize=\"32\"/>\n\
             <reg name=\"r3\" bitsize=\"32\"/>\n<reg name=\"r4\" bitsize=\"32\"/>\n<reg name=\"r5\" bitsize=\"32\"/>\n\
             <reg name=\"r6\" bitsize=\"32\"/>\n<reg name=\"r7\" bitsize=\"32\"/>\n<reg name=\"r8\" bitsize=\"32\"/>\n\
             <reg name=\"r9\" bitsize=\"32\"/>\n<reg name=\"r10\" bitsize=\"32\"/>\n<reg name=\"r11\" bitsize=\"32\"/>\n\
             <reg name=\"r12\" bitsize=\"32\"/>\n<reg name=\"sp\" bitsize=\"32\" type=\"data_ptr\"/>\n\
             <reg name=\"lr\" bitsize=\"32\"/>\n<reg name=\"pc\" bitsize=\"32\" type=\"code_ptr\"/>\n\
             <reg name=\"xPSR\" bitsize=\"32\"/>\n</feature>\n</target>\n",
        )
    }
}

/// All of a core's.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct CoreRegisters([u32; REGISTERS]);

impl Registers for CoreRegisters {
    type ProgramCounter = u32;

    fn pc(&self) -> u32 {
        self.0[PC]
    }

    fn gdb_serialize(&self, mut write: impl FnMut(Option<u8>)) {
        self.0.iter().flat_map(|register| register.to_le_bytes()).for_each(|byte| write(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if bytes.len() != REGISTERS * 4 {
            return Err(());
        }
        for (register, word) in self.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *register = u32::from_le_bytes(word.try_into().map_err(drop)?);
        }
        Ok(())
    }
}

/// The way to GDB. An answer goes as a whole: GDB looks for what was printed beside it when its first byte has come.
struct Pipe<W> {
    output: W,
    answer: Vec<u8>,
}

impl<W: Write> Connection for Pipe<W> {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.answer.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.write_all(&std::mem::take(&mut self.answer))?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use meta_lava_formats::mcu;
    use proptest::prelude::*;

    use super::super::super::Called;
    use super::super::super::testing::Bench;
    use super::*;

    const BOARD: &str = "
model: B-L475E-IOT01A
peripherals:
- {while: always, vendor: '0483', product: 374b}
firmware:
  kind: mcu
  flash: {base: 0x08000000, kib: 1024}
  ram: {base: 0x20000000, kib: 96}
  storage: FOLDER
";

    /// A packet as GDB sends it.
    fn packet(body: &[u8]) -> Vec<u8> {
        let mut escaped = Vec::new();
        for byte in body {
            match byte {
                b'#' | b'$' | b'}' | b'*' => escaped.extend([b'}', byte ^ 0x20]),
                byte => escaped.push(*byte),
            }
        }
        let sum = escaped.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        [b"+$", escaped.as_slice(), format!("#{sum:02x}").as_bytes()].concat()
    }

    /// What OpenOCD answers to these packets, and what it prints, until GDB is gone.
    async fn serve_all(bench: &Bench, packets: Vec<Vec<u8>>) -> (String, String) {
        let socket = bench.socket();
        let run = move || {
            let (mut out, mut err, mut answers) = (Vec::new(), Vec::new(), Vec::new());
            let fault = Cell::new(None);
            let mut called = Called {
                name: "openocd",
                args: &[],
                socket: &socket,
                out: &mut out,
                err: &mut err,
                fault: &fault,
            };
            let mut session = Session::new(&mut called);
            session.command("gdb_port pipe").map(drop).unwrap();
            session.script("board/stm32l4discovery.cfg").map(drop).unwrap();
            // It may not be that far yet.
            while session.init().is_err() {}
            let input: Vec<u8> = packets.iter().flat_map(|body| packet(body)).collect();
            serve(&mut session, input.as_slice(), &mut answers).unwrap();
            (String::from_utf8_lossy(&answers).into_owned(), String::from_utf8(err).unwrap())
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_gdb_loads_is_in_the_flash_when_it_is_done() {
        let bench = Bench::start(BOARD).await;
        let program = mcu::write(0x0800_0000, 0x2001_8000, "hello\n", 0);
        let (first, rest) = program.split_at(40);
        let write = |at: u32, bytes: &[u8]| [format!("vFlashWrite:{at:x}:").as_bytes(), bytes].concat();
        let packets = vec![
            b"?".to_vec(),
            format!("qRcmd,{}", hex::encode("reset halt")).into_bytes(),
            b"qXfer:memory-map:read::0,fff".to_vec(),
            b"vFlashErase:08000000,00000800".to_vec(),
            write(0x0800_0000, first),
            write(0x0800_0000 + 40, rest),
            b"vFlashDone".to_vec(),
            b"m8000000,4".to_vec(),
            b"g".to_vec(),
            b"vCont;c".to_vec(),
        ];
        let (answers, printed) = serve_all(&bench, packets).await;
        let halted = "[stm32l4x.cpu] halted due to debug-request, current mode: Thread \n\
            xPSR: 0x01000000 pc: 0xfffffffe msp: 0xfffffffc\n";
        assert!(printed.contains("Info : accepting 'gdb' connection from pipe\n"), "{printed}");
        assert_eq!(printed.matches(halted).count(), 2, "when GDB comes, and by its monitor: {printed}");
        assert!(answers.contains(&format!("$O{}#", hex::encode(halted))), "{answers}");
        assert!(answers.contains("<memory type=\"flash\" start=\"0x08000000\" length=\"0x00100000\">"));
        assert!(answers.contains("<memory type=\"ram\" start=\"0x08100000\" length=\"0xf7f00000\"/>"));
        assert!(answers.contains("$00800120#"), "its first word: {answers}");
        let sent = format!("sent gdb {} 0x08000000", program.len());
        assert!(bench.ledger().contains(&sent), "{:?}", bench.ledger());
        assert!(!bench.ledger().iter().any(|event| event.starts_with("violation")), "{:?}", bench.ledger());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lies_outside_of_the_flash_is_refused_and_does_not_run() {
        let bench = Bench::start(BOARD).await;
        let mut registers = [0u8; REGISTERS * 4];
        registers[PC * 4..PC * 4 + 4].copy_from_slice(&0x0100_0840u32.to_le_bytes());
        let packets = vec![
            b"X1000800,0:".to_vec(),
            b"X1000800,4:abcd".to_vec(),
            b"m1000800,4".to_vec(),
            [b"G".as_slice(), hex::encode(registers).as_bytes()].concat(),
            b"vCont;c".to_vec(),
        ];
        let (answers, _) = serve_all(&bench, packets).await;
        assert_eq!(answers.matches("$E0e#").count(), 2, "{answers}");
        let violations: Vec<_> =
            bench.ledger().into_iter().filter(|event| event.starts_with("violation")).collect();
        assert_eq!(
            violations,
            [
                "violation not-flash 0x01000800..0x01000804",
                "violation bad-program there is no program at 0x01000840"
            ]
        );
    }

    proptest! {
        #[test]
        fn registers_are_what_gdb_has_sent_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut registers = CoreRegisters::default();
            if registers.gdb_deserialize(&bytes).is_ok() {
                let mut back = Vec::new();
                registers.gdb_serialize(|byte| back.extend(byte));
                prop_assert_eq!(back, bytes);
            } else {
                prop_assert_ne!(bytes.len(), REGISTERS * 4);
            }
        }
    }
}
