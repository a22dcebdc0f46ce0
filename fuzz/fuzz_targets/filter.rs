#![no_main]
//! Filter expressions, names and partitions.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| meta_lava::fuzzing::filter(text));
