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

/// A folder with three scenarios: `bbb` and `juno` of a family, and `whole` with its own job.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("jobs/families/uboot/job.yaml", FAMILY_JOB),
        (
            "jobs/families/uboot/family.yaml",
            "about: u-boot, tftp\nwith: {kernel: arm/zImage, dtb: ~}\ndictionary: {bootloader_prompt: '=>'}\n",
        ),
        ("jobs/health-checks/suite.yaml", "about: one job a device-type\n"),
        (
            "jobs/health-checks/bbb/scenario.yaml",
            "family: uboot\ndevice_type: beaglebone-black\nwith: {dtb: dtb/bbb.dtb}\n",
        ),
        ("jobs/health-checks/bbb/ghost.yaml", GHOST),
        (
            "jobs/health-checks/juno/scenario.yaml",
            "family: uboot\ntags: [slow]\ndictionary: {boot_character_delay: ~, usb: 'x-{{ board }}'}\n",
        ),
        ("jobs/health-checks/juno/ghost.yaml", &format!("uarts: 2\n{GHOST}")),
        ("jobs/lab/suite.yaml", "about: real ones\n"),
        ("jobs/lab/whole/scenario.yaml", ""),
        ("jobs/lab/whole/job.yaml", WHOLE_JOB),
        ("jobs/lab/whole/ghost.yaml", GHOST),
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
    problems.extend(matrix.scenarios.iter().filter_map(|scenario| matrix.render(scenario).err()));
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn a_family_gives_its_scenarios_the_job_and_the_dictionary() {
    let matrix = matrix();
    let rendered = matrix.render(get(&matrix, "bbb")).unwrap();
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
    assert_eq!(rendered.boards, [Board { name: "bbb-01".into(), ports: vec![21000], ghost: GHOST.into() }]);
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
fn a_board_with_two_serial_ports_has_a_connection_list_and_a_null_removes_a_default() {
    let matrix = matrix();
    let rendered = matrix.render(get(&matrix, "juno")).unwrap();
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
    let rendered = matrix.render(get(&matrix, "whole")).unwrap();
    assert_eq!(rendered.job, WHOLE_JOB.replace("[usb]", "[whole-01, usb]"));
    assert_eq!(rendered.devices[0].device_type, "beaglebone-black");
}

#[test]
fn every_mistake_is_shown_where_it_was_made() {
    let scenario = "jobs/health-checks/bbb/scenario.yaml";
    insta::assert_snapshot!(problems(scenario, "famly: uboot\n"), @"jobs/health-checks/bbb/scenario.yaml:1:1: unknown field `famly`, expected one of `family`, `device_type`, `with`, `dictionary`, `tags`, `skip`, `timeout`");
    insta::assert_snapshot!(problems(scenario, "family: ubot\n"), @"jobs/health-checks/bbb/scenario.yaml:1:1: no family is called `ubot`; there are uboot");
    insta::assert_snapshot!(problems(scenario, "family: uboot\nwith:\n  dtbb: x\n  name: y\n"), @"
    jobs/health-checks/bbb/scenario.yaml:3:3: with: the job's template looks up no `dtbb`
    jobs/health-checks/bbb/scenario.yaml:4:3: with: `name` is set by meta-lava and can't be given
    ");
    insta::assert_snapshot!(problems(scenario, "family: uboot\ntimeout: soon\n"), @r#"jobs/health-checks/bbb/scenario.yaml:2:10: timeout: invalid type: string "soon", expected u64"#);
    insta::assert_snapshot!(problems(scenario, "family: [\n"), @"jobs/health-checks/bbb/scenario.yaml:1:9: family: invalid type: sequence, expected a string");
    insta::assert_snapshot!(problems(scenario, "tags: []\n"), @"jobs/health-checks/bbb/scenario.yaml: needs a `family`, or a job.yaml beside it");
    insta::assert_snapshot!(problems(scenario, "family: uboot\ndictionary: {a-b: 1}\n"), @"jobs/health-checks/bbb/scenario.yaml: dictionary: `a-b` is no name of a variable");
    insta::assert_snapshot!(problems(scenario, "family: uboot\ndictionary: {a: '{{ bord }}'}\n"), @"jobs/health-checks/bbb/scenario.yaml: dictionary: a: undefined value: `bord`");
    insta::assert_snapshot!(problems("jobs/health-checks/juno/job.yaml", "a: 1\n"), @"jobs/health-checks/juno/scenario.yaml:1:1: has a family and a job.yaml; it can have only one of them");
    insta::assert_snapshot!(problems("jobs/lab/bbb/scenario.yaml", "family: uboot\n"), @"jobs/lab/bbb/ghost.yaml: is missing");
    insta::assert_snapshot!(problems("jobs/lab/new/ghost.yaml", GHOST), @"jobs/lab/new/scenario.yaml: is missing");
    insta::assert_snapshot!(problems("jobs/empty/readme", ""), @"jobs/empty/suite.yaml: is missing");
}

#[test]
fn a_board_that_is_none_is_shown_where_it_went_wrong() {
    let ghost = "jobs/lab/whole/ghost.yaml";
    assert!(
        problems(ghost, &format!("model: x\nmodl: y\n{}", &GHOST[GHOST.find("firmware").unwrap()..]))
            .starts_with("jobs/lab/whole/ghost.yaml:2:1: unknown field `modl`")
    );
    let found = problems(ghost, "model: x\nfirmware:\n  kind: u-bot\n");
    assert!(found.starts_with("jobs/lab/whole/ghost.yaml:3:3: firmware.kind: no firmware"), "{found}");
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
    write(folder.path(), "jobs/lab/bbb/ghost.yaml", GHOST);
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
    assert!(matrix.render(bbb).unwrap().job.contains("- test: {shell: ash}"));
    // The other scenario of the family does not give it.
    let problem = matrix.render(get(&matrix, "juno")).unwrap_err().to_string();
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
    let job = matrix.render(get(&matrix, "bbb")).unwrap().job;
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
            "family: f\ntags: [slow]\nwith: {k: 1}\ndictionary: {usb: 'x-{{ board }}'}\ntimeout: 60\n",
            "about: x\nwith: {k: 2}\ndictionary: {p: '=>'}\n",
            FAMILY_JOB,
            GHOST,
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
        write(folder.path(), "jobs/lab/whole/scenario.yaml", &format!("timeout: {timeout}\n"));
        let error = Matrix::load(folder.path()).unwrap_err().to_string();
        let told =
            format!("jobs/lab/whole/scenario.yaml:1:1: timeout: {timeout} s; a job may take 1 to 604800 s");
        assert_eq!(error, told);
    }
}

#[test]
fn a_template_that_would_not_end_is_refused() {
    let folder = folder();
    let text = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
    write(folder.path(), "jobs/families/uboot/job.yaml", &format!("{FAMILY_JOB}{text}"));
    let matrix = Matrix::load(folder.path()).unwrap();
    let error = matrix.render(&matrix.scenarios[0]).unwrap_err().to_string();
    assert!(error.contains("ran out of fuel"), "{error}");
}

#[test]
fn a_scenario_is_skipped_with_a_reason_on_all_lavas_or_on_some() {
    let load = |skip: &str| {
        let folder = folder();
        write(
            folder.path(),
            "jobs/health-checks/bbb/scenario.yaml",
            &format!("family: uboot\ndevice_type: beaglebone-black\nskip: {skip}\n"),
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
