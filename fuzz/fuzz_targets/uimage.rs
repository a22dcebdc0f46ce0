#![no_main]
//! Legacy U-Boot images, and those of several parts.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::uimage;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = uimage::parse(bytes) {
        let _ = image.parts();
    }
});
