#![no_main]
//! The pipeline that LAVA made of a job.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::pipeline(bytes));
