#![no_main]
//! Android boot images.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::android;

fuzz_target!(|bytes: &[u8]| {
    let _ = android::parse(bytes);
});
