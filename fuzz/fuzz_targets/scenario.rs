#![no_main]
//! A scenario's files, loaded and rendered.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::scenario(bytes));
