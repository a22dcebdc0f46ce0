#![no_main]
//! File systems of the kinds FAT12 to FAT32.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::fat;

fuzz_target!(|bytes: &[u8]| {
    let _ = fat::read(bytes.to_vec(), 1 << 20);
});
