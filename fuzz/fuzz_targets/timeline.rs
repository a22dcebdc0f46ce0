#![no_main]
//! The timeline of a job.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::timeline(bytes));
