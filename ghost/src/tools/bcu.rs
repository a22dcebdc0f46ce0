//! `bcu`: NXP's tool that does by a board's debug port what a hand does at its switches: it sets the boot mode, and resets the
//! board.
//!
//! The order of what it does, its words and its exit codes are those of NXP's sources (`bcu.c`, `bcu_parser.c`, `board.c`,
//! `chip.c` and `port.c` of `nxp-imx/bcu`, June 2026). It ends with 0 whatever became of a command: what it could not do is
//! told on its standard output only.
//!
//! The pins that it sets are on a controller with power of its own ([`Remote`]); the boot ROM reads them at the next reset
//! ([`crate::firmware::imx`]). It plays one board, the i.MX 8M Plus EVK, which has no EEPROM to be known by. The times that a
//! button is held are 0. By hand: it takes what it is told in any order, and stops at the first word that it does not know.

use std::fmt::Write as _;
use std::io;

use super::usb::Device;
use super::{Called, Tool};
use crate::control::{self, Request};
use crate::peripheral::{Attached, Identity, Remote};

/// The tool.
pub const TOOL: Tool = Tool { names: &["bcu"], run };

const VERSION: &str = "version bcu_1.1.128-0-ge7027dc\n";

const RED: &str = "\x1b[0;91m";
const GREEN: &str = "\x1b[92m";
const YELLOW: &str = "\x1b[93m";
const PLAIN: &str = "\x1b[0m";

/// The board that is played.
const PLAYED: &str = "imx8mpevk";

/// The boards that it knows, in its order (`board_list`).
const BOARDS: &[&str] = &[
    "imx8dxlevk",
    "imx8dxlevkc1",
    "imx8dxl_ddr3_evk",
    "imx8dxl_obx",
    "imx8mpevkpwra0",
    "imx8mpevkpwra1",
    PLAYED,
    "imx8mpddr4",
    "imx8ulpevkb2",
    "imx8ulpevk9",
    "imx91qsb",
    "imx91evk11",
    "imx93evk11",
    "imx93evk11b1",
    "imx93qsb",
    "imx93evk14",
    "imx95evk19",
    "imx95evk15",
    "imx952evk15",
    "imx952evk19",
    "imx943evk19a0",
    "imx943evk19b1",
];

/// The boot modes of the board, and what its pins say in each (`imx8mpevk_board_boot_modes`).
const MODES: &[(&str, u8)] = &[
    ("fuse", 0x00),
    ("usb", 0x01),
    ("emmc", 0x02),
    ("sd", 0x03),
    ("nand_256", 0x04),
    ("nand_512", 0x05),
    ("qspi_3b_read", 0x06),
    ("qspi_hyperflash", 0x07),
    ("ecspi", 0x08),
    ("infinite_loop", 0x0e),
];

/// Those that the board here starts from.
const STARTS: &[&str] = &["usb", "sd"];

/// What the pins of the boot mode say before anybody has set them.
const UNSET: u8 = 0x0f;

/// Pins that mean nothing to what is played, by what they hang on (`imx8mpevk_board`).
const PINS: &[(&str, Channel)] = &[
    ("SR_vsys_5v", Channel::I2c),
    ("SR_nvcc_snvs_1v8", Channel::I2c),
    ("SR_vdd_soc", Channel::I2c),
    ("SR_vdd_arm", Channel::I2c),
    ("SR_vdd_pll_ana_1v8", Channel::I2c),
    ("SR_nvcc_dram_1v1", Channel::I2c),
    ("SR_lpd4_vddq", Channel::I2c),
    ("ft_io8", Channel::I2c),
    ("ft_io9", Channel::I2c),
    ("ft_io10", Channel::I2c),
    ("ft_io11", Channel::I2c),
    ("io_nint", Channel::Gpio),
    ("ft_gpio1", Channel::Gpio),
    ("ft_gpio2", Channel::Gpio),
    ("ft_gpio3", Channel::Gpio),
    ("ft_gpio4", Channel::Gpio),
];

/// Pins that a board is switched by, which only the commands for that set here.
const SWITCHES: &[&str] = &["boot_mode", "remote_en", "reset_b", "reset", "io_nrst", "onoff"];

/// How a pin is reached: by the debug port's own pins, or by what hangs on its I2C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Gpio,
    I2c,
}

impl Channel {
    fn name(self) -> &'static str {
        match self {
            Self::Gpio => "ft4232h_gpio",
            Self::I2c => "ft4232h_i2c",
        }
    }
}

/// What it was told.
#[derive(Debug, Default)]
struct Told<'a> {
    board: &'a str,
    id: &'a str,
    keep: bool,
    mode: Option<(&'static str, u8)>,
    pin: Option<(&'static str, Channel)>,
    level: Option<u8>,
}

/// It says no more, and ends with 0.
struct Over;

fn run(called: Called) -> Result<u8, String> {
    let mut bcu = Bcu { called, found: Found::NotAsked, open: None };
    bcu.say(VERSION);
    let args = bcu.called.args;
    let Some((command, rest)) = args.split_first() else {
        bcu.help();
        return Ok(0);
    };
    if let ("help" | "-h", []) = (command.as_str(), rest) {
        bcu.help();
        return Ok(0);
    }
    match bcu.take(command, rest)? {
        Ok(told) => bcu.does(command, &told)?,
        Err(Over) => return Ok(0),
    }
    bcu.say("done\n");
    Ok(0)
}

/// What came of looking for the debug port.
enum Found {
    NotAsked,
    Nothing,
    /// The board that has it.
    Port(String),
}

struct Bcu<'a> {
    called: Called<'a>,
    found: Found,
    /// What was opened last; when it goes from the pins to I2C, that begins anew.
    open: Option<Channel>,
}

/// Whether it is the debug port of a board: what libftdi looks for.
fn is_ftdi(device: &Attached) -> bool {
    let numbers = format!("{}:{}", device.vendor, device.product);
    ["0403:6001", "0403:6010", "0403:6011", "0403:6014", "0403:6015"].contains(&numbers.as_str())
}

impl<'a> Bcu<'a> {
    fn say(&mut self, text: &str) {
        let _ = self.called.out.write_all(text.as_bytes());
    }

    fn help(&mut self) {
        self.say("Usage:\nbcu command [-options]\n\nlist of available commands:\n");
    }

    /// Takes the words behind the command apart (`parse_board_id_options`, `parse_options`).
    fn take(&mut self, command: &str, words: &'a [String]) -> Result<Result<Told<'a>, Over>, String> {
        let mut told = Told::default();
        let value = |word: &'a str, name: &str| word.strip_prefix(name).filter(|value| !value.is_empty());
        for word in words {
            if let Some(board) = value(word, "-board=") {
                told.board = board;
                self.say(&format!("board model is {board}\n"));
            } else if word == "-auto" {
                return Err("this ghost of bcu does not play -auto".into());
            }
        }
        let of_no_board = matches!(command, "upgrade" | "uuu" | "lsftdi" | "lsboard" | "version" | "help");
        if !of_no_board {
            if let Err(says) = known(told.board) {
                self.say(&says);
                return Ok(Err(Over));
            }
            if told.board != PLAYED {
                return Err(format!("this ghost of bcu does not play the board {}", told.board));
            }
        }
        for word in words {
            let said = if let Some(id) = value(word, "-id=") {
                told.id = id;
                format!("location_id is {id}\n")
            } else if let Some(milliseconds) = value(word, "-delay=") {
                format!("delay is {milliseconds}\n")
            } else if let Some(milliseconds) = value(word, "-hold=") {
                format!("hold is {milliseconds}\n")
            } else if matches!(word.as_str(), "high" | "1") {
                told.level = Some(1);
                "will set gpio high\n".into()
            } else if matches!(word.as_str(), "low" | "0") {
                told.level = Some(0);
                "will set gpio low\n".into()
            } else if word == "-keep" {
                told.keep = true;
                String::new()
            } else if value(word, "-board=").is_some() {
                String::new()
            } else if of_no_board {
                return Ok(Err(Over));
            } else if let Some(mode) = MODES.iter().find(|(name, _)| name == word) {
                told.mode = Some(*mode);
                String::new()
            } else if let Some(pin) = PINS.iter().find(|(name, _)| name == word) {
                told.pin = Some(*pin);
                String::new()
            } else if SWITCHES.contains(&word.as_str()) {
                return Err(format!("this ghost of bcu does not set {word} by itself"));
            } else {
                self.say(&format!("could not recognize input {word}\n"));
                return Ok(Err(Over));
            };
            self.say(&said);
        }
        match told.mode {
            Some((mode, _)) if !STARTS.contains(&mode) => {
                Err(format!("this ghost of bcu does not play the boot mode {mode}"))
            }
            _ => Ok(Ok(told)),
        }
    }

    fn does(&mut self, command: &str, told: &Told) -> Result<(), String> {
        let broken = |error: io::Error| error.to_string();
        match command {
            "reset" => self.reset(told).map_err(broken)?,
            "init" => self.initialize(told, false).map_err(broken)?,
            "deinit" => self.deinitialize(told).map_err(broken)?,
            "set_boot_mode" => self.set_boot_mode(told).map_err(broken)?,
            "get_boot_mode" => self.get_boot_mode(told).map_err(broken)?,
            "set_gpio" => self.set_gpio(told).map_err(broken)?,
            "lsbootmode" => {
                self.say("\navailable boot mode:\n\n");
                for (mode, _) in MODES {
                    self.say(&format!("\t{mode}\n"));
                }
            }
            "lsboard" => {
                self.say("\nlist of supported board model:\n\n");
                for board in BOARDS {
                    let (colour, default) =
                        if *board == told.board { (GREEN, " (default)") } else { ("", "") };
                    self.say(&format!("{colour}\t{board}{default}{PLAIN}\n"));
                }
            }
            "version" => {}
            "upgrade" | "uuu" | "lsftdi" | "lsgpio" | "get_level" | "onoff" | "eeprom" | "monitor"
            | "server" | "temp" | "help" => return Err(format!("this ghost of bcu does not play {command}")),
            _ => {
                self.say(&format!("{command} is a invalid command\n\n"));
                self.help();
                return Ok(());
            }
        }
        if command != "lsboard" {
            self.say("No pins release before exit required.\n");
        }
        Ok(())
    }

    /// Opens what a pin hangs on; whether it could. The call is noted when it does so first, with the board that it is for.
    fn open(&mut self, told: &Told, channel: Channel) -> io::Result<bool> {
        if let Found::NotAsked = self.found {
            if told.id.is_empty() {
                return Err(io::Error::other("this ghost of bcu has to be told an -id="));
            }
            let identity = Identity { path: Some(told.id.to_owned()), ..Identity::default() };
            // LAVA has just opened the console where it begins with one of these; the others come when that is long so, or is over.
            let begins = matches!(self.called.args[0].as_str(), "reset" | "init");
            let found = match begins {
                true => Device::heard(&self.called, &identity)?,
                false => Device::note(&self.called, &identity)?,
            };
            let port = found.into_iter().find(is_ftdi);
            self.found = port.map_or(Found::Nothing, |port| Found::Port(port.board));
        }
        if let Found::Port(_) = self.found {
            if channel == Channel::I2c && self.open != Some(Channel::I2c) {
                self.say("I2C frequency: 400KHz\n");
            }
            self.open = Some(channel);
            return Ok(true);
        }
        let any = control::present(self.called.socket)?.iter().any(|it| is_ftdi(&it.change.device));
        let why = match any {
            true => "entered location id not found",
            false => "no ftdi device found! please make sure the device is connnected to the computer",
        };
        self.say(&format!(
            "{why}\nfailed to open ftdi device!\n***please make sure you run bcu with sudo\nfailed to create {} data \
            structure\n",
            channel.name()
        ));
        Ok(false)
    }

    /// The same for a pin by its name (`get_gpio`).
    fn pin(&mut self, told: &Told, channel: Channel) -> io::Result<bool> {
        let open = self.open(told, channel)?;
        if !open {
            self.say("get_gpio: error building device linked list\n");
        }
        Ok(open)
    }

    /// Sets the pins, and perhaps resets the board; what they say then.
    fn control(&self, enabled: Option<bool>, mode: Option<&str>, reset: bool) -> io::Result<Remote> {
        let Found::Port(board) = &self.found else { return Ok(Remote::default()) };
        let mode = mode.map(str::to_owned);
        let request = Request::Control { board: board.clone(), enabled, mode, reset };
        control::get(self.called.socket, &request)
    }

    fn initialize(&mut self, told: &Told, resets: bool) -> io::Result<()> {
        for pin in ["io_nrst", "reset"] {
            if !self.open(told, Channel::Gpio)? {
                self.say("initialize: error building device linked list\n");
                return Ok(());
            }
            self.say(&format!("set {pin} high successfully\n"));
        }
        match (told.mode, resets) {
            (Some(_), _) => self.set_boot_mode(told)?,
            (None, true) => self.say(&format!("will boot by {YELLOW}BOOT SWITCH{PLAIN}\n")),
            (None, false) => {
                self.say("please give boot_mode, assuming 'sd' this time\n");
                let sd = MODES.iter().find(|(name, _)| *name == "sd").copied();
                self.set_boot_mode(&Told { mode: sd, board: told.board, id: told.id, ..Told::default() })?;
            }
        }
        self.open(told, Channel::I2c)?;
        self.control(Some(true), None, false)?;
        self.say(&format!("{GREEN}ENABLE{PLAIN} remote control\n"));
        if !resets {
            self.say("board initialization finished\n");
        }
        Ok(())
    }

    fn reset(&mut self, told: &Told) -> io::Result<()> {
        self.initialize(told, true)?;
        self.say(&format!(
            "Set {YELLOW}ALL{PLAIN} sense resistances to {YELLOW}smaller{PLAIN} ones\nresetting in: 0.50s\n"
        ));
        if self.pin(told, Channel::Gpio)? {
            self.control(None, None, true)?;
            self.say("\n\x1b[1A\x1b[K");
            if told.mode.is_none() {
                self.pin(told, Channel::I2c)?;
                self.control(Some(false), None, false)?;
                self.say(&format!(
                    "{RED}DISABLE{PLAIN} remote control, boot by {YELLOW}BOOT SWITCH{PLAIN}\n"
                ));
            }
            self.say("reset successfully\n");
        } else {
            self.say("reset: error building device linked list\n");
            self.deinitialize(told)?;
        }
        if !told.keep {
            self.deinitialize(told)?;
            self.say(&format!(
                "deinitialized the BCU settings, BOOTMODE returns to {YELLOW}BOOT SWITCH{PLAIN}.\n\
                use [{GREEN}-keep{PLAIN}] to keep BCU settings after exited reset command\n"
            ));
        }
        Ok(())
    }

    fn deinitialize(&mut self, told: &Told) -> io::Result<()> {
        if !self.pin(told, Channel::I2c)? {
            self.say("deinitialize: Cannot find gpio remote_en!\n");
            return Ok(());
        }
        self.control(Some(false), None, false)?;
        self.say(&format!("{RED}DISABLE{PLAIN} remote control: remote_en\n"));
        Ok(())
    }

    fn set_boot_mode(&mut self, told: &Told) -> io::Result<()> {
        let Some((mode, _)) = told.mode else {
            self.say("could not detect a valid boot_mode,\nplease entered a valid boot mode\nset_boot_mode failed\n");
            return Ok(());
        };
        if !self.pin(told, Channel::I2c)? {
            self.say("set_boot_mode: No boot_mode configuration!\n");
            return Ok(());
        }
        self.control(None, Some(mode), false)?;
        self.say("set boot mode successfully\n");
        Ok(())
    }

    fn get_boot_mode(&mut self, told: &Told) -> io::Result<()> {
        if !self.pin(told, Channel::I2c)? {
            self.say("get_boot_mode: Cannot find gpio remote_en!\n");
            return Ok(());
        }
        let Remote { enabled, mode } = self.control(None, None, false)?;
        if !enabled {
            self.say("get_boot_mode: remote_en is disabled, boot from BOOT SWITCH!\n");
            return Ok(());
        }
        let found = MODES.iter().find(|(name, _)| Some(*name) == mode.as_deref());
        self.say(&match found {
            Some((name, pins)) => {
                format!("get_boot_mode: {RED}{name}{PLAIN}, hex value: {RED}0x{pins:x}{PLAIN}\n")
            }
            None => format!(
                "get_boot_mode hex value: {RED}0x{UNSET:x}{PLAIN}, cannot find the boot mode string.\n"
            ),
        });
        Ok(())
    }

    fn set_gpio(&mut self, told: &Told) -> io::Result<()> {
        let Some(level) = told.level else {
            self.say("please enter a valid output state, 1 to set logic level high, 0 to set it low\n");
            return Ok(());
        };
        let Some((pin, channel)) = told.pin else {
            self.say(
                "could not detect a valid gpio name entered\nplease enter the name of the gpio pin,\nto see a list of \
                available gpio pin, please use command lsgpio\n",
            );
            return Ok(());
        };
        match self.open(told, channel)? {
            true => self.say(&format!("{pin} gpio set to {level} successfully\n")),
            false => self.say("set_gpio: error building device linked list\n"),
        }
        Ok(())
    }
}

/// Whether it knows `board`; else what it says (`get_board`): boards whose names have a beginning of it, which it makes shorter by
/// one letter, then by two, and so on.
fn known(board: &str) -> Result<(), String> {
    if board.is_empty() {
        return Err("\nmissing option <-board=>\n\nOr use option <-auto> to find the board automatically\nNOTE: if other \
            boards are also connected to the same host, <-auto> may break its ttyUSB function temporarily.\n\n"
            .into());
    }
    if BOARDS.contains(&board) {
        return Ok(());
    }
    let mut says = format!("board model {board} is not supported");
    let ends = (0..).map_while(|cut| board.len().checked_sub(cut * (cut + 1) / 2));
    let beginnings = ends.filter_map(|end| board.get(..end));
    let alike = beginnings
        .map(|begin| BOARDS.iter().filter(|it| it.contains(begin)).collect::<Vec<_>>())
        .find(|alike| !alike.is_empty());
    if let Some(alike) = alike {
        says.push_str(", do you mean:\n\n\t");
        for board in alike {
            let _ = write!(says, "{board} ");
        }
    }
    says.push('\n');
    Err(says)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, Found};
    use super::*;
    use crate::peripheral::{Mode, usb_path_of};

    const BOARD: &str = "
model: i.MX8MP
peripherals:
- {while: recovery, vendor: 1fc9, product: '0146'}
- {while: always, vendor: '0403', product: '6011', cable: debug}
memory: {base: 0x40000000, mib: 64}
firmware:
  kind: u-boot
  banner: U-Boot 2021.04
  arch: arm64
  boot: [booti]
  mmc: {1: {kib: 64}}
  rom: {mmc: 1}
  flash: FOLDER
";

    fn id() -> String {
        usb_path_of("b", "debug")
    }

    async fn call(bench: &Bench, line: &str) -> String {
        let Found { code, out, .. } =
            bench.call(&TOOL, &format!("{line} -board=imx8mpevk -id={}", id())).await;
        assert_eq!(code, 0, "{line}: {out}");
        let head = format!("{VERSION}board model is imx8mpevk\n");
        let said = out.strip_prefix(&head).unwrap_or_else(|| panic!("{line}: {out}"));
        said.replace(&format!("location_id is {}\n", id()), "").replace(PLAIN, "")
    }

    /// Whether its boot ROM waits for a program.
    async fn waits(bench: &Bench) -> bool {
        let socket = bench.socket();
        let there = tokio::task::spawn_blocking(move || control::present(&socket)).await.unwrap().unwrap();
        there.iter().any(|it| it.change.device.when == Mode::Recovery)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reset_into_serial_download_keeps_it_only_if_it_is_told_so() {
        let bench = Bench::start(BOARD).await;
        assert!(!waits(&bench).await);
        let said = call(&bench, "reset usb -keep").await;
        let nothing = format!(
            "set io_nrst high successfully\nset reset high successfully\n\
            I2C frequency: 400KHz\nset boot mode successfully\n{GREEN}ENABLE remote control\n\
            Set {YELLOW}ALL sense resistances to {YELLOW}smaller ones\nresetting in: 0.50s\n\n\x1b[1A\x1b[K\
            reset successfully\nNo pins release before exit required.\ndone\n"
        );
        assert_eq!(said, nothing);
        while !waits(&bench).await {}
        let said = call(&bench, "get_boot_mode").await;
        assert!(said.contains(&format!("get_boot_mode: {RED}usb, hex value: {RED}0x1\n")), "{said}");
        // It is read at a reset only.
        call(&bench, "set_boot_mode sd").await;
        assert!(waits(&bench).await);
        bench.reset().await.unwrap().unwrap();
        assert!(!waits(&bench).await);
        // Without power nothing starts.
        bench.power_off().await;
        let said = call(&bench, "reset usb").await;
        assert!(said.contains(&format!("{RED}DISABLE remote control: remote_en\n")), "{said}");
        assert!(said.contains(&format!("BOOTMODE returns to {YELLOW}BOOT SWITCH.\n")), "{said}");
        assert!(!waits(&bench).await);
        let said = call(&bench, "get_boot_mode").await;
        assert!(said.contains("remote_en is disabled, boot from BOOT SWITCH!\n"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_it_does_not_know_or_find_it_says_and_ends_with_0() {
        let bench = Bench::start(BOARD).await;
        let id = id();
        for (line, says) in [
            ("set_boot_mode sd1 -board=imx8mpevk -id=1-1".to_owned(), "could not recognize input sd1\n"),
            ("get_boot_mode -id=1-1".into(), "\nmissing option <-board=>\n"),
            (
                "get_boot_mode -board=imx93evk14x -id=1-1".into(),
                "board model imx93evk14x is not supported, do you mean:\n\n\timx93evk14 \n",
            ),
            (
                "get_boot_mode -board=imx8mpevk -id=1-1".into(),
                "entered location id not found\nfailed to open ftdi device!\n***please make sure you run bcu with sudo\n\
                failed to create ft4232h_i2c data structure\nget_gpio: error building device linked list\n\
                get_boot_mode: Cannot find gpio remote_en!\nNo pins release before exit required.\ndone\n",
            ),
            (
                "init usb -board=imx8mpevk -id=1-1".into(),
                "failed to create ft4232h_gpio data structure\ninitialize: error building device linked list\nNo pins",
            ),
            (
                "reset usb -board=imx8mpevk -id=1-1".into(),
                "reset: error building device linked list\nentered location id not found\n",
            ),
            (format!("set_boot_mode -board=imx8mpevk -id={id}"), "set_boot_mode failed\n"),
            (format!("set_gpio ft_io8 -board=imx8mpevk -id={id}"), "please enter a valid output state"),
            (format!("set_gpio 1 -board=imx8mpevk -id={id}"), "could not detect a valid gpio name entered\n"),
            (format!("set_gpio ft_io8 0 -board=imx8mpevk -id={id}"), "ft_io8 gpio set to 0 successfully\n"),
            (format!("frob -board=imx8mpevk -id={id}"), "frob is a invalid command\n"),
            ("lsboard".into(), "\timx8mpevk\x1b[0m\n"),
            (format!("lsbootmode -board=imx8mpevk -id={id}"), "\tusb\n\temmc\n\tsd\n"),
            (String::new(), "Usage:\nbcu command [-options]\n"),
        ] {
            let found = bench.call(&TOOL, &line).await;
            assert!(found.code == 0 && found.out.contains(says), "{line}: {found:?}");
        }
        // The call of a board's own port is noted with it, and no other.
        let ledger = bench.ledger();
        assert_eq!(ledger, [format!("tool bcu set_gpio ft_io8 0 -board=imx8mpevk -id={id}")]);
    }
}
