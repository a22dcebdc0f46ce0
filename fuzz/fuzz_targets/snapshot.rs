#![no_main]
//! Snapshots.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::snapshot(bytes));
