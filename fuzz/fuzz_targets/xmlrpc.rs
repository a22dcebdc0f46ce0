#![no_main]
//! Answers of LAVA's XML-RPC.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava::fuzzing::xmlrpc(bytes));
