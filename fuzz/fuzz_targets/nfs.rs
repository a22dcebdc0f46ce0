#![no_main]
//! Replies of an NFS server.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| meta_lava_ghost::net::nfs::fuzz(bytes));
