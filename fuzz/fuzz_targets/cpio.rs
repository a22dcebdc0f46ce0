#![no_main]
//! Ramdisks: what was read can be written, and reads the same.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::cpio;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(once) = cpio::parse(bytes)
        && let Ok(written) = cpio::write(&once.tree)
    {
        assert!(cpio::parse(&written).is_ok());
    }
});
