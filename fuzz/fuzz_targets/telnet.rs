#![no_main]
//! What a telnet client sends.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava_ghost::console::fuzz_telnet(bytes));
