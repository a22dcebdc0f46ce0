//! Tests of loading and rendering, and the small matrix that other tests use too.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::render::Board;
use super::*;

/// A board that every kind of U-Boot settings accepts.
const GHOST: &str = "\
model: TI AM335x BeagleBone Black
firmware:
  kind: u-boot
  banner: U-Boot 2023.01
  arch: arm
  boot: [bootz]
";

/// What a lab writes for one.
const DICTIONARY: &str = "dictionary: {bootloader_prompt: '=>'}\n";

const FAMILY_JOB: &str = "\
# As a user would write it.
job_name: {{ name }}
device_type: {{ device_type }}
visibility: public
timeouts: {job: {minutes: 5}}
actions:
- deploy:
    kernel: {url: {{ world }}/{{ kernel }}}
{% if dtb %}
    dtb: {url: {{ world }}/{{ dtb }}}
{% endif %}
";

const WHOLE_JOB: &str = "\
job_name: a real lab's job # with its comment
device_type: beaglebone-black
visibility: public
timeouts: {job: {minutes: 5}}
tags: [usb]
actions: []
";

const WORLD: &str = "\
login: {user: root, password: ghost}
artifacts:
  arm/zImage: {kind: blob, size: 1}
  dtb/bbb.dtb: {kind: dtb, model: a board}
";

/// A folder with three scenarios: `bbb` and `juno` of a family, and `whole` with its own job.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("jobs/families/uboot/job.yaml", FAMILY_JOB),
        ("jobs/families/uboot/family.yaml", "about: u-boot, tftp\nwith: {kernel: arm/zImage, dtb: ~}\n"),
        ("jobs/health-checks/suite.yaml", "about: one job a device-type\n"),
        ("jobs/health-checks/bbb/scenario.yaml", "family: uboot\nwith: {dtb: dtb/bbb.dtb}\n"),
        ("boards/bbb.yaml", &format!("device_type: beaglebone-black\n{DICTIONARY}{GHOST}")),
        (
            "jobs/health-checks/juno/scenario.yaml",
            "family: uboot\ntags: [slow]\ndictionary: {boot_character_delay: ~, usb: 'x-{{ board }}'}\n",
        ),
        ("boards/juno.yaml", &format!("{DICTIONARY}uarts: 2\n{GHOST}")),
        ("jobs/lab/suite.yaml", "about: real ones\n"),
        ("jobs/lab/whole/scenario.yaml", "board: bbb\n"),
        ("jobs/lab/whole/job.yaml", WHOLE_JOB),
        ("world/artifacts.yaml", WORLD),
    ] {
        write(folder.path(), path, text);
    }
    folder
}

/// Writes a file below `root`.
pub fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The scenarios of [`folder`].
pub fn matrix() -> Matrix {
    Matrix::load(folder().path()).unwrap()
}

fn get<'m>(matrix: &'m Matrix, name: &str) -> &'m Scenario {
    matrix.scenarios.iter().find(|scenario| scenario.name == name).unwrap()
}

/// What loading and rendering finds wrong after `path` got `text`.
fn problems(path: &str, text: &str) -> String {
    let folder = folder();
    write(folder.path(), path, text);
    let (matrix, mut problems) = Matrix::load_with_problems(folder.path());
    problems
        .extend(matrix.scenarios.iter().filter_map(|scenario| matrix.render(scenario, Series::OLDEST).err()));
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn a_family_gives_its_scenarios_the_job_and_a_board_its_dictionary() {
    let matrix = matrix();
    let rendered = matrix.render(get(&matrix, "bbb"), Series::OLDEST).unwrap();
    insta::assert_snapshot!(rendered.job, @"
    # As a user would write it.
    job_name: bbb
    device_type: beaglebone-black
    visibility: public
    timeouts: {job: {minutes: 5}}
    actions:
    - deploy:
        kernel: {url: http://world/arm/zImage}
        dtb: {url: http://world/dtb/bbb.dtb}
    tags:
    - bbb-01
    ");
    let board = Board {
        name: "bbb-01".into(),
        ports: vec![21000],
        off_is_the_end: true,
        firmware: "u-boot".into(),
        ghost: GHOST.into(),
        faults: Vec::new(),
        guest: None,
    };
    assert_eq!(rendered.boards, [board]);
    assert_eq!(rendered.devices[0].tags, ["bbb-01"]);
    insta::assert_snapshot!(rendered.devices[0].dictionary, @"
    {% extends 'beaglebone-black.jinja2' %}
    {% set connection_command = 'telnet 127.0.0.1 21000' %}
    {% set hard_reset_command = 'ghost power reset bbb-01' %}
    {% set power_on_command = 'ghost power on bbb-01' %}
    {% set power_off_command = 'ghost power off bbb-01' %}
    {% set boot_character_delay = 0 %}
    {% set test_character_delay = 0 %}
    {% set bootloader_prompt = '=>' %}
    ");
}

#[test]
fn switching_off_is_the_end_of_a_job_where_nothing_else_does_it() {
    let scenario = "jobs/lab/whole/scenario.yaml";
    let is_the_end = |dictionary: &str, job: &str| {
        let folder = folder();
        write(folder.path(), scenario, &format!("board: bbb\ndictionary:\n  {dictionary}\n"));
        write(folder.path(), "jobs/lab/whole/job.yaml", &WHOLE_JOB.replace("[]", job));
        let matrix = Matrix::load(folder.path()).unwrap();
        matrix.render(get(&matrix, "whole"), Series::OLDEST).unwrap().boards[0].off_is_the_end
    };
    assert!(is_the_end("power_off_command: ['ghost power off {{ board }}']", "[]"));
    assert!(!is_the_end("hard_reset_command: ['ghost power off {{ board }}', 'sleep 1']", "[]"));
    assert!(is_the_end("usb: 1", "[command: {name: power_on}]"));
    assert!(!is_the_end("usb: 1", "[command: {name: power_off}]"));
}

#[test]
fn a_board_with_two_serial_ports_has_a_connection_list_and_a_null_removes_a_default() {
    let matrix = matrix();
    let rendered = matrix.render(get(&matrix, "juno"), Series::OLDEST).unwrap();
    assert_eq!(rendered.boards[0].ports, [21016, 21017]);
    insta::assert_snapshot!(rendered.devices[0].dictionary, @"
    {% extends 'juno.jinja2' %}
    {% set connection_list = ['uart0', 'uart1'] %}
    {% set connection_commands = {'uart0': 'telnet 127.0.0.1 21016', 'uart1': 'telnet 127.0.0.1 21017'} %}
    {% set connection_tags = {'uart0': ['primary', 'telnet'], 'uart1': ['telnet']} %}
    {% set hard_reset_command = 'ghost power reset juno-01' %}
    {% set power_on_command = 'ghost power on juno-01' %}
    {% set power_off_command = 'ghost power off juno-01' %}
    {% set test_character_delay = 0 %}
    {% set bootloader_prompt = '=>' %}
    {% set usb = 'x-juno-01' %}
    ");
}

#[test]
fn a_whole_job_is_submitted_as_it_is_but_for_the_tag() {
    let matrix = matrix();
    let rendered = matrix.render(get(&matrix, "whole"), Series::OLDEST).unwrap();
    assert_eq!(rendered.job, WHOLE_JOB.replace("[usb]", "[whole-01, usb]"));
    assert_eq!(rendered.devices[0].device_type, "beaglebone-black");
}

#[test]
fn every_mistake_is_shown_where_it_was_made() {
    let scenario = "jobs/health-checks/bbb/scenario.yaml";
    insta::assert_snapshot!(problems(scenario, "famly: uboot\n"), @"jobs/health-checks/bbb/scenario.yaml:1:1: unknown field `famly`, expected one of `about`, `family`, `board`, `change`, `dictionary`, `roles`, `with`, `tags`, `skip`, `unlogged`, `ends`, `says`, `again`, `requests`, `fails`, `defect`, `timeout`, `variants`");
    insta::assert_snapshot!(problems(scenario, "family: ubot\n"), @"jobs/health-checks/bbb/scenario.yaml:1:1: no family is called `ubot`; there are uboot");
    insta::assert_snapshot!(problems(scenario, "family: uboot\nwith:\n  dtbb: x\n  name: y\n"), @"
    jobs/health-checks/bbb/scenario.yaml:3:3: with: the job's template looks up no `dtbb`
    jobs/health-checks/bbb/scenario.yaml:4:3: with: `name` is set by meta-lava and can't be given
    ");
    insta::assert_snapshot!(problems(scenario, "family: uboot\ntimeout: soon\n"), @r#"jobs/health-checks/bbb/scenario.yaml:2:10: timeout: expected a number that is not negative, found the text `soon`"#);
    insta::assert_snapshot!(problems(scenario, "family: [\n"), @"jobs/health-checks/bbb/scenario.yaml:1:9: family: expected a text, found a list");
    insta::assert_snapshot!(problems(scenario, "tags: []\n"), @"jobs/health-checks/bbb/scenario.yaml: needs a `family`, or a job.yaml beside it");
    insta::assert_snapshot!(problems(scenario, "family: uboot\ndictionary: {a-b: 1}\n"), @"jobs/health-checks/bbb/scenario.yaml:2:14: dictionary: `a-b` is no name of a variable");
    insta::assert_snapshot!(problems(scenario, "family: uboot\ndictionary: {a: '{{ bord }}'}\n"), @"jobs/health-checks/bbb/scenario.yaml: dictionary: a: undefined value: `bord`");
    insta::assert_snapshot!(problems("jobs/health-checks/juno/job.yaml", "a: 1\n"), @"jobs/health-checks/juno/scenario.yaml:1:1: has a family and a job.yaml; it can have only one of them");
    insta::assert_snapshot!(problems("jobs/lab/new/scenario.yaml", "family: uboot\n"), @"jobs/lab/new/scenario.yaml: no board is called `new`; boards/new.yaml would be its file");
    insta::assert_snapshot!(problems("jobs/lab/new/notes", ""), @"jobs/lab/new/scenario.yaml: is missing");
    insta::assert_snapshot!(problems("jobs/empty/readme", ""), @"jobs/empty/suite.yaml: is missing");
}

#[test]
fn a_board_that_is_none_is_shown_where_it_went_wrong() {
    let bbb = "boards/bbb.yaml";
    let firmware = &GHOST[GHOST.find("firmware").unwrap()..];
    insta::assert_snapshot!(problems(bbb, &format!("model: x\nmodl: y\n{firmware}")), @"boards/bbb.yaml:2:1: unknown field `modl`, expected one of `model`, `firmware`, `memory`, `uarts`, `beside`, `kernel`, `typing_ms`, `port`, `peripherals`, `cable`, `battery`, `headless`, `mcc`, `switch_ports`, `faults`");
    insta::assert_snapshot!(problems(bbb, "device_type: juno\nmodel: x\nfirmware:\n  kind: u-bot\n"), @r#"boards/bbb.yaml:4:3: firmware.kind: no firmware is called "u-bot"; there are barebox, depthcharge, fastboot, fvp, grub-efi, grub, ipxe, mcu, minimal, none, qemu, script, ssh, u-boot, uefi, uefi-fastboot, uefi-menu"#);
    insta::assert_snapshot!(problems(bbb, &format!("dictionary:\n  a-b: 1\n{GHOST}")), @"boards/bbb.yaml:2:3: dictionary: `a-b` is no name of a variable");
    insta::assert_snapshot!(problems(bbb, &format!("dictionary: [a]\n{GHOST}")), @"boards/bbb.yaml:1:13: dictionary: expected a mapping, found a list");
    insta::assert_snapshot!(problems(bbb, &format!("port: vanishes\n{GHOST}")), @"boards/bbb.yaml:1:7: port: unknown variant `vanishes`, expected `outlives power` or `vanishes with power`");
    insta::assert_snapshot!(problems(bbb, "model: [\n"), @"boards/bbb.yaml:2:1: a value is missing here");
}

#[test]
fn a_board_that_there_is_not_is_told_with_those_of_a_like_name() {
    let scenario = "jobs/health-checks/bbb/scenario.yaml";
    insta::assert_snapshot!(problems(scenario, "family: uboot\nboard: jno\n"), @"jobs/health-checks/bbb/scenario.yaml:2:1: no board is called `jno`; did you mean juno?");
    insta::assert_snapshot!(problems(scenario, "family: uboot\nboard: rzn1d\n"), @"jobs/health-checks/bbb/scenario.yaml:2:1: no board is called `rzn1d`; boards/rzn1d.yaml would be its file");
}

#[test]
fn a_board_that_nobody_refers_to_and_a_second_file_of_a_name_are_told() {
    let folder = folder();
    write(folder.path(), "boards/spare.yaml", GHOST);
    write(folder.path(), "boards/Spare.yaml", GHOST);
    write(folder.path(), "boards/notes.txt", "");
    let (matrix, problems) = Matrix::load_with_problems(folder.path());
    let told =
        |problems: &[Problem]| problems.iter().map(|problem| format!("{problem}\n")).collect::<String>();
    insta::assert_snapshot!(told(&problems), @"
    boards/notes.txt: a board is a file called <name>.yaml
    boards/spare.yaml: is a second file of the name of boards/Spare.yaml
    ");
    insta::assert_snapshot!(told(&matrix.unused_boards()), @"boards/Spare.yaml: no scenario refers to this board");
}

/// A board that is another one with a newer LAVA.
const OF_SERIES: &str = "\
of_series:
- series: \">=2026.09\"
  reason: the template has another prompt from there on
  dictionary: {bootloader_prompt: 'bbb=>'}
  change: {firmware: {prompt: 'bbb=> '}}
";

#[test]
fn a_board_may_be_another_one_with_some_series_of_lava() {
    let folder = folder();
    let text = format!("device_type: beaglebone-black\n{DICTIONARY}{OF_SERIES}{GHOST}");
    write(folder.path(), "boards/bbb.yaml", &text);
    let change = "family: uboot\nchange: {typing_ms: 5}\ndictionary: {usb: 1}\n";
    write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", change);
    let matrix = Matrix::load(folder.path()).unwrap();
    let rendered = |series: &str| matrix.render(get(&matrix, "bbb"), series.parse().unwrap()).unwrap();
    let (old, new) = (rendered("2026.08"), rendered("2026.10"));
    assert!(old.devices[0].dictionary.contains("bootloader_prompt = '=>'"));
    assert!(new.devices[0].dictionary.contains("bootloader_prompt = 'bbb=>'"));
    assert!(new.devices[0].dictionary.contains("usb = 1"));
    assert!(!old.boards[0].ghost.contains("bbb=>") && old.boards[0].ghost.contains("typing_ms: 5"));
    assert!(new.boards[0].ghost.contains("bbb=>") && new.boards[0].ghost.contains("typing_ms: 5"));
    assert_eq!((old.job, old.boards[0].ports.len()), (new.job, new.boards[0].ports.len()));
}

#[test]
fn what_is_wrong_with_a_boards_series_is_shown_where_it_is() {
    let told = |from: &str, to: &str| {
        problems(
            "boards/bbb.yaml",
            &format!("device_type: beaglebone-black\n{}{GHOST}", OF_SERIES.replace(from, to)),
        )
    };
    assert_eq!(told("", ""), "");
    insta::assert_snapshot!(told("\">=2026.09\"", "new"), @"boards/bbb.yaml:3:3: of_series[0]: `new` is not a series of LAVA such as 2023.01");
    insta::assert_snapshot!(told("the template has another prompt from there on", "''"), @"boards/bbb.yaml:4:3: of_series: say why");
    insta::assert_snapshot!(told("bootloader_prompt", "a-b"), @"boards/bbb.yaml:5:16: dictionary: `a-b` is no name of a variable");
    insta::assert_snapshot!(told("prompt: 'bbb=> '", "prmpt: x"), @"boards/bbb.yaml:6:23: of_series: change: firmware: unknown field `prmpt`, expected one of `kind`, `banner`, `lines`, `prompt`, `autoboot`, `arch`, `boot`, `ethernet`, `usb_ethernet`, `usb_storage`, `env`, `nand`, `mmc`, `cpld`, `rom`, `flash`, `disks`");
    insta::assert_snapshot!(told("firmware: {prompt: 'bbb=> '}", "uarts: 2"), @"boards/bbb.yaml:6:12: of_series: change: uarts: a board has as many serial ports with every LAVA");
}

/// What the ghost of `bbb` reads where its scenario changes it, or what is wrong with the change.
fn changed(change: &str) -> String {
    let folder = folder();
    let text = format!("family: uboot\nwith: {{dtb: x}}\nchange:\n{change}");
    write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", &text);
    let (matrix, problems) = Matrix::load_with_problems(folder.path());
    match problems.first() {
        Some(problem) => problem.to_string(),
        None => matrix.render(get(&matrix, "bbb"), Series::OLDEST).unwrap().boards[0].ghost.clone(),
    }
}

#[test]
fn a_scenario_changes_a_value_of_its_board_and_says_only_that() {
    insta::assert_snapshot!(changed("  firmware: {boot: [bootm], prompt: '# '}\n  typing_ms: 5\n  model: ghost\n"), @"
    model: ghost
    firmware:
      kind: u-boot
      banner: U-Boot 2023.01
      arch: arm
      boot:
      - bootm
      prompt: '# '
    typing_ms: 5
    ");
    // One value may need another one.
    insta::assert_snapshot!(changed("  firmware: {kind: minimal, banner: ~, arch: ~, boot: ~}\n"), @"
    model: TI AM335x BeagleBone Black
    firmware:
      kind: minimal
    ");
}

#[test]
fn a_change_that_makes_no_board_is_shown_where_it_was_made() {
    insta::assert_snapshot!(changed("  firmware:\n    prompt: '# '\n    prmpt: x\n"), @"jobs/health-checks/bbb/scenario.yaml:6:5: change: firmware: unknown field `prmpt`, expected one of `kind`, `banner`, `lines`, `prompt`, `autoboot`, `arch`, `boot`, `ethernet`, `usb_ethernet`, `usb_storage`, `env`, `nand`, `mmc`, `cpld`, `rom`, `flash`, `disks`");
    insta::assert_snapshot!(changed("  typing_ms: soon\n"), @r#"jobs/health-checks/bbb/scenario.yaml:4:3: change: typing_ms: expected a number that is not negative, found the text `soon`"#);
    insta::assert_snapshot!(changed("  firmware: {prompt: ~}\n"), @"jobs/health-checks/bbb/scenario.yaml:4:14: change: firmware.prompt: the board has none that could be left out");
    insta::assert_snapshot!(changed("  model: ~\n"), @"jobs/health-checks/bbb/scenario.yaml:4:3: change: missing field `model`");
    insta::assert_snapshot!(changed("  firmware: {boot: {bootm: true}}\n"), @"jobs/health-checks/bbb/scenario.yaml:4:21: change: firmware.boot: expected a list, found a mapping");
}

#[test]
fn a_board_may_be_written_in_any_style_of_yaml() {
    let folder = folder();
    let firmware = "{kind: minimal}";
    for text in [
        format!("{{model: x, device_type: beaglebone-black, dictionary: {{a: 1}}, firmware: {firmware}}}"),
        format!(
            "\"device_type\": beaglebone-black\nmodel: x\n\"dictionary\":\n  a: 1\nfirmware: {firmware}\n"
        ),
        format!("model: x\ndictionary: {{\na: 1\n}}\nfirmware: {firmware}\ndevice_type: beaglebone-black\n"),
        format!("# A board.\nmodel: x\n# Its lab.\ndevice_type:\n- beaglebone-black\nfirmware: {firmware}\n")
            .replace("\n- ", " "),
    ] {
        write(folder.path(), "boards/bbb.yaml", &text);
        let matrix = Matrix::load(folder.path()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let rendered = matrix.render(get(&matrix, "bbb"), Series::OLDEST).unwrap();
        let ghost: serde_yaml::Mapping = serde_yaml::from_str(&rendered.boards[0].ghost).unwrap();
        assert_eq!(ghost.keys().map(|key| key.as_str().unwrap()).collect::<Vec<_>>(), ["model", "firmware"]);
        assert_eq!(rendered.devices[0].device_type, "beaglebone-black", "{text}");
        assert_eq!(rendered.devices[0].dictionary.contains("set a = 1"), text.contains("a: 1"), "{text}");
    }
}

#[test]
fn a_board_of_a_tool_of_ours_has_that_in_its_dictionary() {
    let folder = folder();
    for (kind, words) in [
        (
            "minimal",
            "{% set flasher_deploy_commands = ['ghost flash bbb-01 kernel {KERNEL}', 'ghost flash bbb-01 root {ROOT}'] %}",
        ),
        ("qemu", "{% set extra_options = ['-name bbb-01'] %}"),
    ] {
        let text = format!("device_type: beaglebone-black\nmodel: x\nfirmware: {{kind: {kind}}}\n");
        write(folder.path(), "boards/bbb.yaml", &text);
        let matrix = Matrix::load(folder.path()).unwrap();
        let dictionary =
            matrix.render(get(&matrix, "bbb"), Series::OLDEST).unwrap().devices[0].dictionary.clone();
        assert!(dictionary.contains(words), "{dictionary}");
    }
}

const ROLES: &str = "\
roles:
  server: bbb
  client: {board: juno, count: 2, dictionary: {usb: 'x-{{ board }}'}, change: {uarts: ~}}
";

const JOB_OF_ROLES: &str = "\
job_name: two roles
visibility: public
timeouts: {job: {minutes: 5}}
protocols:
  lava-multinode:
    roles:
      client: {device_type: juno, count: 2}
      server:
        device_type: beaglebone-black
        count: 1
actions: []
";

/// A folder with one more scenario, of two roles.
pub fn folder_with_roles() -> tempfile::TempDir {
    let folder = folder();
    write(folder.path(), "jobs/lab/two/scenario.yaml", ROLES);
    write(folder.path(), "jobs/lab/two/job.yaml", JOB_OF_ROLES);
    folder
}

#[test]
fn each_role_has_its_boards_and_its_jobs_find_them_by_a_tag() {
    let folder = folder_with_roles();
    let matrix = Matrix::load(folder.path()).unwrap();
    let two = get(&matrix, "two");
    assert_eq!(two.device_types(), ["beaglebone-black", "juno"]);
    let rendered = matrix.render(two, Series::OLDEST).unwrap();
    let told: Vec<String> = rendered
        .devices
        .iter()
        .zip(&rendered.boards)
        .map(|(device, board)| {
            format!("{} {} {:?} {:?}", device.hostname, device.device_type, device.tags, board.ports)
        })
        .collect();
    assert_eq!(
        told,
        [
            "two-server-01 beaglebone-black [\"two-server\"] [21032]",
            "two-client-01 juno [\"two-client\"] [21033]",
            "two-client-02 juno [\"two-client\"] [21034]",
        ]
    );
    assert!(rendered.devices[2].dictionary.contains("{% set usb = 'x-two-client-02' %}"));
    let wanted = JOB_OF_ROLES
        .replace("{device_type: juno", "{tags: [two-client], device_type: juno")
        .replace("server:\n", "server:\n        tags: [two-server]\n");
    assert_eq!(rendered.job, wanted);
}

#[test]
fn a_role_that_does_not_fit_its_job_or_its_board_is_told() {
    let told = |scenario: &str, job: &str| {
        let folder = folder();
        write(folder.path(), "jobs/lab/two/scenario.yaml", scenario);
        write(folder.path(), "jobs/lab/two/job.yaml", job);
        let (matrix, problems) = Matrix::load_with_problems(folder.path());
        let render =
            matrix.scenarios.iter().filter_map(|scenario| matrix.render(scenario, Series::OLDEST).err());
        problems.into_iter().chain(render).map(|problem| format!("{problem}\n")).collect::<String>()
    };
    assert_eq!(told(ROLES, JOB_OF_ROLES), "");
    insta::assert_snapshot!(told(&ROLES.replace("client", "clint"), JOB_OF_ROLES), @"jobs/lab/two/job.yaml: the scenario has the role `clint`, and the job has not");
    insta::assert_snapshot!(told("roles: {server: bbb}\n", JOB_OF_ROLES), @"jobs/lab/two/job.yaml: the job has the role `client`, and the scenario has not");
    insta::assert_snapshot!(told(&ROLES.replace("count: 2", "count: 3"), JOB_OF_ROLES), @"jobs/lab/two/job.yaml: the job asks for 2 boards for the role `client`, and the scenario has 3");
    insta::assert_snapshot!(told(&ROLES.replace("server: bbb", "server: juno"), JOB_OF_ROLES), @"jobs/lab/two/job.yaml: the job asks for device_type `beaglebone-black` for the role `server`, and the scenario's board is a `juno`");
    insta::assert_snapshot!(told(ROLES, WHOLE_JOB), @"jobs/lab/two/job.yaml: the scenario has roles, and the job has none in `protocols.lava-multinode.roles`");
    insta::assert_snapshot!(told("board: bbb\n", JOB_OF_ROLES), @"jobs/lab/two/job.yaml: the job has roles: the scenario needs `roles`, with a board for each");
    insta::assert_snapshot!(told(&ROLES.replace("count: 2", "cuont: 2"), JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:3:25: roles.client: unknown field `cuont`, expected one of `board`, `on`, `count`, `change`, `dictionary`");
    insta::assert_snapshot!(told(&ROLES.replace("count: 2", "count: 0"), JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:3:25: count: 0; a role has 1 to 99 boards");
    insta::assert_snapshot!(told(&ROLES.replace("board: juno", "board: jun"), JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:3:12: no board is called `jun`; did you mean juno?");
    insta::assert_snapshot!(told(&ROLES.replace("uarts: ~", "uarts: 99"), JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:3:80: change: uarts is 99, a board has 1 to 16");
    insta::assert_snapshot!(told(&format!("board: bbb\n{ROLES}"), JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:1:1: board: say it of one of the roles, since there are `roles`");
    insta::assert_snapshot!(told("roles: {}\n", JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:1:1: roles: there is none");
    insta::assert_snapshot!(told("roles: [bbb]\n", JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:1:8: roles: expected roles by name, such as `client: {board: juno, count: 2}`, found a list");
    insta::assert_snapshot!(told("roles: {server: bbb, server: juno}\n", JOB_OF_ROLES), @"jobs/lab/two/scenario.yaml:1:8: roles: two roles are called `server`");
}

#[test]
fn a_guest_is_on_the_one_board_of_another_role_and_has_no_device() {
    const HOST: &str = "model: m\nfirmware: {kind: ssh, image: i}\ndevice_type: ssh\n";
    const ROLES: &str = "roles:\n  host: host\n  guest: {on: host}\n";
    const JOB: &str = "job_name: guest\nvisibility: public\ntimeouts: {job: {minutes: 5}}\nprotocols:\n  lava-multinode:\n    \
                       roles:\n      host: {device_type: ssh, count: 1}\n      guest: {connection: ssh, count: 1, \
                       host_role: host}\nactions: []\n";
    let load = |roles: &str, job: &str| {
        let folder = folder();
        write(folder.path(), "boards/host.yaml", HOST);
        write(folder.path(), "jobs/lab/two/scenario.yaml", roles);
        write(folder.path(), "jobs/lab/two/job.yaml", job);
        Matrix::load_with_problems(folder.path())
    };
    let told = |roles: &str, job: &str| {
        let (matrix, problems) = load(roles, job);
        let render =
            matrix.scenarios.iter().filter_map(|scenario| matrix.render(scenario, Series::OLDEST).err());
        problems.into_iter().chain(render).map(|problem| format!("{problem}\n")).collect::<String>()
    };
    assert_eq!(told(ROLES, JOB), "");
    let (matrix, _) = load(ROLES, JOB);
    let rendered = matrix.render(get(&matrix, "two"), Series::OLDEST).unwrap();
    let devices: Vec<&str> = rendered.devices.iter().map(|device| device.hostname.as_str()).collect();
    assert_eq!(devices, ["two-host-01"]);
    let guest = &rendered.boards[1];
    assert_eq!((guest.name.as_str(), guest.ports.is_empty()), ("two-guest-01", true));
    let of = guest.guest.as_ref().unwrap();
    assert_eq!((of.of.as_str(), of.role.as_str()), ("two-host-01", "guest"));
    assert_eq!(rendered.job.matches("tags:").count(), 1, "a guest needs none");
    insta::assert_snapshot!(told(&ROLES.replace("on: host", "on: hots"), JOB), @"jobs/lab/two/scenario.yaml:3:11: roles.guest: a guest is on the device of a role before it, and there `hots` is none");
    insta::assert_snapshot!(told(&ROLES.replace("{on: host}", "{on: host, board: host}"), JOB), @"jobs/lab/two/scenario.yaml:3:11: roles.guest: a guest has one job, and nothing of its own but `on`");
    insta::assert_snapshot!(told(&ROLES.replace("{on: host}", "{count: 1}"), JOB), @"jobs/lab/two/scenario.yaml:3:3: a role has a `board`, or is `on` another one's device");
    insta::assert_snapshot!(told(&ROLES.replace("host: host", "host: {board: host, count: 2}"), JOB), @"jobs/lab/two/scenario.yaml:3:11: roles.guest: a guest can be on one board only, and `host` has several");
    insta::assert_snapshot!(told(&ROLES.replace("host: host", "host: juno"), JOB), @"jobs/lab/two/scenario.yaml:3:11: roles.guest: a guest can be on a board only that is reached by SSH, and `host` is none");
    insta::assert_snapshot!(told(ROLES, &JOB.replace("host_role: host", "host_role: other")), @"jobs/lab/two/job.yaml: the scenario's role `guest` is on `host`'s device, and the job's has no `connection` and `host_role: host`");
}

#[test]
fn a_family_that_is_none_is_shown_where_it_went_wrong() {
    let job = "jobs/families/uboot/job.yaml";
    insta::assert_snapshot!(problems(job, "job_name: x\nkernel: {{ kernel }\n"), @"jobs/families/uboot/job.yaml:2:19: syntax error: unexpected `}`, expected end of variable block");
    let found = problems(job, &FAMILY_JOB.replace("{{ kernel }}", "{{ kernl }}"));
    assert!(
        found.contains("jobs/families/uboot/job.yaml:8:34: for health-checks/bbb: undefined value: `kernl`"),
        "{found}"
    );
    let found = problems(job, &FAMILY_JOB.replace("visibility: public", "visibility: [public"));
    assert!(
        found.starts_with("jobs/families/uboot/job.yaml: as rendered for health-checks/bbb: line 5"),
        "{found}"
    );
    let found = problems(job, &FAMILY_JOB.replace("visibility: public\n", ""));
    assert!(found.contains("a LAVA job has a `visibility`"), "{found}");
    let found = problems(job, &FAMILY_JOB.replace("{{ device_type }}", "qemu"));
    assert!(found.contains("the job asks for device_type `qemu`"), "{found}");
}

#[test]
fn names_are_unique_over_all_suites() {
    let folder = folder();
    write(folder.path(), "jobs/lab/bbb/scenario.yaml", "family: uboot\n");
    let error = Matrix::load(folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "jobs/lab/bbb: names are unique over all suites, and this one is also health-checks/bbb"
    );
}

#[test]
fn templates_include_what_families_share() {
    let folder = folder();
    write(folder.path(), "jobs/families/shared/test.yaml", "- test: {shell: {{ shell }}}\n");
    write(
        folder.path(),
        "jobs/families/uboot/job.yaml",
        &format!("{FAMILY_JOB}{{% include 'shared/test.yaml' %}}\n"),
    );
    write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", "family: uboot\nwith: {shell: ash}\n");
    let (matrix, problems) = Matrix::load_with_problems(folder.path());
    assert_eq!(problems, []);
    let bbb = get(&matrix, "bbb");
    assert!(matrix.render(bbb, Series::OLDEST).unwrap().job.contains("- test: {shell: ash}"));
    // The other scenario of the family does not give it.
    let problem = matrix.render(get(&matrix, "juno"), Series::OLDEST).unwrap_err().to_string();
    assert!(problem.starts_with("jobs/families/shared/test.yaml:1:20: for health-checks/juno"), "{problem}");
}

#[test]
fn a_scenario_gives_actions_as_yaml() {
    let folder = folder();
    let job =
        format!("{FAMILY_JOB}{{% for action in then %}}\n- {{{{ action|yaml|indent(2) }}}}\n{{% endfor %}}");
    write(folder.path(), "jobs/families/uboot/job.yaml", &job);
    let action = "test: {interactive: [{name: sh, prompts: ['/ # ', '<\"&'], script: [{command: 'it''s'}]}]}";
    let with = format!("family: uboot\nwith:\n  then:\n  - {action}\n  - command: {{name: lamp}}\n");
    write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", &with);
    let (matrix, problems) = Matrix::load_with_problems(folder.path());
    assert_eq!(problems, []);
    let job = matrix.render(get(&matrix, "bbb"), Series::OLDEST).unwrap().job;
    let job: serde_yaml::Value = serde_yaml::from_str(&job).unwrap();
    assert_eq!(job["actions"][1], serde_yaml::from_str::<serde_yaml::Value>(action).unwrap());
    assert_eq!(job["actions"][2]["command"]["name"], "lamp");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_damage_to_a_scenarios_files_is_loaded_or_told(
        at in any::<prop::sample::Index>(), cut in 0usize..9, text in "[:{}%\\[\\]&*!|>#'\"\\-\n a-e0-9]{0,12}",
    ) {
        let files = [
            "family: f\ntags: [slow]\nwith: {k: 1}\ndictionary: {usb: 'x-{{ board }}'}\ntimeout: 60\nchange: {uarts: 2}\n",
            "about: x\nwith: {k: 2}\n",
            FAMILY_JOB,
            &format!("device_type: bbb\ndictionary: {{p: '=>'}}\n{GHOST}"),
        ]
        .join("\n%%\n");
        let from = at.index(files.len());
        let to = (from + cut).min(files.len());
        crate::fuzzing::scenario(format!("{}{text}{}", &files[..from], &files[to..]).as_bytes());
    }
}

#[test]
fn a_timeout_that_no_clock_can_count_to_is_refused() {
    for timeout in ["0", "18446744073709551615"] {
        let folder = folder();
        write(folder.path(), "jobs/lab/whole/scenario.yaml", &format!("board: bbb\ntimeout: {timeout}\n"));
        let error = Matrix::load(folder.path()).unwrap_err().to_string();
        let told =
            format!("jobs/lab/whole/scenario.yaml:2:1: timeout: {timeout} s; a job may take 1 to 604800 s");
        assert_eq!(error, told);
    }
}

#[test]
fn a_template_that_would_not_end_is_refused() {
    let folder = folder();
    let text = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    write(folder.path(), "jobs/families/uboot/job.yaml", &format!("{FAMILY_JOB}{text}"));
    let matrix = Matrix::load(folder.path()).unwrap();
    let error = matrix.render(&matrix.scenarios[0], Series::OLDEST).unwrap_err().to_string();
    assert!(error.contains("ran out of fuel"), "{error}");
}

#[test]
fn a_scenario_is_skipped_with_a_reason_on_all_lavas_or_on_some() {
    let load = |skip: &str| {
        let folder = folder();
        write(
            folder.path(),
            "jobs/health-checks/bbb/scenario.yaml",
            &format!("family: uboot\nskip: {skip}\n"),
        );
        Matrix::load(folder.path())
    };
    let on = |skip: &str, series: &str| {
        let matrix = load(skip).unwrap();
        let reason = matrix.scenarios[0].skipped_on(series.parse().unwrap()).map(str::to_owned);
        (matrix.scenarios[0].skipped().map(str::to_owned), reason)
    };
    let why = Some("a reason".to_owned());
    assert_eq!(on("a reason", "2026.10"), (why.clone(), why.clone()));
    assert_eq!(on("{series: \"<2026.07\", reason: a reason}", "2023.01"), (None, why));
    assert_eq!(on("{series: \"<2026.07\", reason: a reason}", "2026.07"), (None, None));
    let error = |skip: &str| load(skip).unwrap_err().to_string();
    assert!(error("{reason: x}").contains("missing field `series`"), "{}", error("{reason: x}"));
    assert!(error("{series: 2026.10, reason: x}").contains("in quotes"));
    assert!(error("{series: \"<2026.10\", reason: ' '}").contains("say why"));
    assert!(error("''").contains("say why"));
}

#[test]
fn a_scenario_may_say_how_its_job_ends_and_with_which_lavas() {
    let ends = |text: &str| {
        let folder = folder();
        write(folder.path(), "jobs/health-checks/bbb/scenario.yaml", &format!("family: uboot\n{text}\n"));
        let (matrix, problems) = Matrix::load_with_problems(folder.path());
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let on = |series: &str| get(&matrix, "bbb").ends_on(series.parse().unwrap(), &[]);
        if said.is_empty() { Ok([on("2023.01"), on("2026.10")]) } else { Err(said.join("\n")) }
    };
    assert_eq!(ends("with: {}"), Ok([Ends::Complete; 2]));
    assert_eq!(ends("ends: incomplete"), Ok([Ends::Incomplete; 2]));
    assert_eq!(ends("ends: {refused: '>=2026.07'}"), Ok([Ends::Complete, Ends::Refused]));
    for wrong in [
        "ends: incomplet",
        "ends: {incomplete: 1}",
        "ends: {}",
        "ends: {incomplete: '2023.01', refused: '2026.10'}",
    ] {
        let said = ends(wrong).unwrap_err();
        assert!(said.starts_with("jobs/health-checks/bbb/scenario.yaml:2:"), "{said}");
    }
}

#[test]
fn how_a_job_ends_and_what_fails_is_no_part_of_the_job() {
    let folder = folder();
    let job = |root: &Path| {
        let matrix = Matrix::load(root).unwrap();
        matrix.render(get(&matrix, "bbb"), Series::OLDEST).unwrap().job
    };
    let before = job(folder.path());
    let file = "jobs/health-checks/bbb/scenario.yaml";
    write(folder.path(), file, "family: uboot\nends: incomplete\nfails: [ping]\nwith: {dtb: dtb/bbb.dtb}\n");
    assert_eq!(job(folder.path()), before);
}

#[test]
fn what_fails_on_purpose_is_listed_for_contributors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let matrix = Matrix::load(root).unwrap();
    let listed = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let is_listed =
        |name: &str| listed.contains(&format!("`{name}`")) || listed.contains(&format!("/{name}`"));
    for scenario in &matrix.scenarios {
        // A scenario that says what LAVA must say tells that in `list`.
        let ends = scenario.ends.filter(|said| said.ends != Ends::Complete && scenario.says.is_none());
        let ends = ends.map(|_| &scenario.name);
        for name in scenario.fails.iter().chain(ends) {
            assert!(is_listed(name), "{}: {name}", scenario.id());
        }
    }
}

#[test]
fn a_file_may_have_a_table_of_scenarios_each_with_its_own_name() {
    let folder = folder();
    let table = "family: uboot\nboard: bbb\nends: incomplete\ntags: [fault]\nchange: {model: x, memory: {base: 1, mib: 2}}\n\
                 variants:\n  one:\n    about: the first\n    change: {memory: {mib: 3}}\n    says: 'error_type: Bug'\n  \
                 two:\n    about: the second\n    ends: complete\n    again: incomplete\n    tags: [slow]\n";
    write(folder.path(), "jobs/lab/table/scenario.yaml", table);
    let matrix = Matrix::load(folder.path()).unwrap();
    let named = |name: &str| matrix.scenarios.iter().find(|scenario| scenario.name == name).unwrap();
    let (one, two) = (named("one"), named("two"));
    assert_eq!((one.id(), one.about.as_deref()), ("lab/one".to_owned(), Some("the first")));
    assert_eq!(one.says.as_ref().unwrap().on(Series::OLDEST), Some("error_type: Bug"));
    assert!(one.roles[0].ghost().contains("mib: 3") && one.roles[0].ghost().contains("base: 1"));
    assert_eq!(one.ends_on(Series::OLDEST, &[]), Ends::Incomplete);
    assert_eq!(
        (two.tags.as_slice(), two.says.is_some()),
        (&["fault".to_owned(), "slow".to_owned()][..], false)
    );
    assert_eq!(two.ends_on(Series::OLDEST, &[]), Ends::Complete);
    assert_eq!((one.again, two.again), (None, Some(Ends::Incomplete)));
    assert_eq!(two.roles[0].boards, ["two-01"]);
}

#[test]
fn what_is_wrong_in_a_table_is_told_where_it_is() {
    let problems = |text: &str| {
        let folder = folder();
        write(folder.path(), "jobs/lab/table/scenario.yaml", text);
        let found = Matrix::load_with_problems(folder.path()).1;
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let table = "family: uboot\nboard: bbb\nvariants:\n";
    let told = problems(&format!("{table}  one:\n    tags: []\n"));
    assert!(told.contains("table/scenario.yaml: about: say in one line"), "{told}");
    let fault = "    about: x\n    change:\n      faults:\n      - {when: {}, then: hang}\n";
    let told = problems(&format!("{table}  one:\n{fault}"));
    assert!(
        told.contains("table/scenario.yaml:7:7: change: faults") && told.contains("when: says nothing"),
        "{told}"
    );
    assert!(problems("family: uboot\nvariants: {}\n").contains("variants: there is none"));
    let told = problems(&format!("{table}  one:\n    about: x\n  one:\n    about: y\n"));
    assert!(told.contains("two variants are called `one`"), "{told}");
}

/// A sound defect, but for what is said of it besides.
fn defect(more: &str) -> String {
    let shown = "shows: {results: 'error_type: Bug'}, would_show: {log: bound}";
    format!(
        "family: uboot\ndefect: {{series: '>=2026.09', about: it fails, right: it works, {shown}{more}}}\n"
    )
}

#[test]
fn a_scenario_may_name_what_lavas_do_wrong_and_means_what_they_should_do() {
    let folder = folder();
    let file = "jobs/health-checks/bbb/scenario.yaml";
    write(folder.path(), file, &defect(", ends: incomplete, fails: [ping]"));
    let matrix = Matrix::load(folder.path()).unwrap();
    let bbb = get(&matrix, "bbb");
    assert_eq!(bbb.defects_on(Series::OLDEST), Vec::<&Defect>::new());
    let newer: Series = "2026.10".parse().unwrap();
    let known = bbb.defects_on(newer);
    assert_eq!(known.iter().map(|defect| defect.about.as_str()).collect::<Vec<_>>(), ["it fails"]);
    assert_eq!((bbb.ends_on(newer, &known), bbb.ends_on(newer, &[])), (Ends::Incomplete, Ends::Complete));
    assert_eq!((known[0].shows.of("results"), known[0].shows.of("log")), (Some("error_type: Bug"), None));
    // Several are a list.
    let one = defect("").replace("defect: ", "defect:\n- ");
    let two = format!("{one}{}", &one[one.find("- ").unwrap()..]);
    write(folder.path(), file, &two);
    assert_eq!(get(&Matrix::load(folder.path()).unwrap(), "bbb").defects.len(), 2);
}

#[test]
fn a_defect_that_could_not_be_found_or_told_is_refused() {
    let file = "jobs/health-checks/bbb/scenario.yaml";
    let refused = |old: &str, new: &str| problems(file, &defect("").replace(old, new));
    assert_eq!(refused("x", "x"), "");
    for (old, new, why) in [
        ("about: it fails, ", "", "missing field `about`"),
        ("about: it fails", "about: ' '", "about: say in one line what LAVA does wrong"),
        ("right: it works", "right: ''", "right: say what LAVA should do instead"),
        ("{log: bound}", "{}", "would_show: name at least one of"),
        ("{log: bound}", "{log: ' '}", "would_show: a sign is a part of one line"),
        ("{log: bound}", "{logs: bound}", "unknown field `logs`"),
        (
            "right: it works",
            "right: it works, upstream: 'javascript:alert(1)'",
            "upstream: the address of an issue",
        ),
        ("defect: {", "defect: [{", "a list in brackets is not closed"),
        (">=2026.09", "soon", "`soon`"),
    ] {
        let said = refused(old, new);
        assert!(said.contains(why) && said.contains("scenario.yaml:"), "{new}: {said}");
    }
}
