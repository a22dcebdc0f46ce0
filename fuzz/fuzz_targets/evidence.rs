#![no_main]
//! All that comes back of a job, normalised.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::evidence(bytes));
