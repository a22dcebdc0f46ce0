#![no_main]
//! Board files: any text is a board or an error.

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

use meta_lava_ghost::board;

fuzz_target!(|text: &str| {
    let _ = board::parse::<BTreeMap<String, String>>("fuzzed", text);
});
