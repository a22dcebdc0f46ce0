#![no_main]
//! run.json, as rerun and merge read it.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::run_file(bytes));
