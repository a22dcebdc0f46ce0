#![no_main]
//! LAVA's actions in a log that grows.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::actions(bytes));
