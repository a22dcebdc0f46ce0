#![no_main]
//! A file of `sabotages/`.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::sabotage(bytes));
