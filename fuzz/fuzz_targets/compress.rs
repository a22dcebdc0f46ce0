#![no_main]
//! Compressed streams: bounded, whatever they claim to become.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::compress::decompress_prefix;

/// Far below what the input could become.
const LIMIT: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((content, _)) = decompress_prefix(bytes, LIMIT) {
        assert!(content.len() <= LIMIT.max(bytes.len()));
    }
});
