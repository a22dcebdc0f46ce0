#![no_main]
//! What LAVA logged of a board against its console.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::heard(bytes));
