#![no_main]
//! Disks with a master boot record.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::mbr;

fuzz_target!(|bytes: &[u8]| {
    let _ = mbr::parse(bytes);
});
