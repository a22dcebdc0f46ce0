#![no_main]
//! Masks over untrusted text.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| meta_lava::fuzzing::masks(text));
