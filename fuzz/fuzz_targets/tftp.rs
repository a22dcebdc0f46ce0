#![no_main]
//! Packets of a TFTP server.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava_ghost::net::tftp::fuzz(bytes));
