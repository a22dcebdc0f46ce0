//! What LAVA's own templates say, asked of a LAVA.

use crate::repository::{QUICK, Repository};
use crate::tool::{call, meta_lava};

#[test]
#[ignore = "takes Docker: .ci/run faults"]
fn a_device_is_shown_as_lava_renders_it_and_the_types_are_listed_with_what_covers_them() {
    let repository = Repository::new();
    let board = repository.read(&format!("boards/{QUICK}.yaml"));
    repository.write("boards/no-such-type.yaml", &format!("device_type: beaglebone-blak\n{board}"));
    let scenario = repository.read(&format!("jobs/health-checks/{QUICK}/scenario.yaml"));
    repository.write("jobs/health-checks/no-such-type/scenario.yaml", &scenario);

    let shown = call(meta_lava(&repository).args(["show", QUICK, "--part", "device"]));
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for words in
        ["# device beaglebone-black-01 on ", "interrupt-prompt: ", "ghost power reset beaglebone-black-01"]
    {
        assert!(shown.stdout.contains(words), "{words:?} is not in:\n{}", shown.stdout);
    }
    let mut missing = meta_lava(&repository);
    call(missing.args(["show", "no-such-type", "--part", "device"]))
        .failed(4, &["no template of the device-type `beaglebone-blak`; did you mean beaglebone-black"]);

    let listed = call(meta_lava(&repository).args(["list", "--types"]));
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let line = |name: &str| {
        let of = |line: &&str| line.split_whitespace().next() == Some(name);
        listed.stdout.lines().find(of).unwrap_or_else(|| panic!("{name}:\n{}", listed.stdout)).to_owned()
    };
    assert!(line("beaglebone-black").split_whitespace().any(|word| word == QUICK));
    assert!(line("beaglebone-blak").contains("(no template) no-such-type"));
}
