#![no_main]
//! LAVA's log.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::lava_log(bytes));
