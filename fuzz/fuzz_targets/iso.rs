#![no_main]
//! Discs: any bytes are a tree or an error.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::iso;

fuzz_target!(|bytes: &[u8]| {
    let _ = iso::read(bytes.to_vec(), 1 << 20);
});
