#![no_main]
//! File systems of the kinds ext2 to ext4.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::ext;

fuzz_target!(|bytes: &[u8]| {
    let _ = ext::read(bytes.to_vec(), 1 << 20);
});
