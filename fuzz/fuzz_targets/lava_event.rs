#![no_main]
//! Messages of LAVA's publisher.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| meta_lava::fuzzing::event(text));
