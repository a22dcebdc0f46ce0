#![no_main]
//! Answers of LAVA's REST API.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::rest(bytes));
