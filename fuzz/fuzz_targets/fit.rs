#![no_main]
//! FIT images, their hashes and configurations.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::fit;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(fit) = fit::parse(bytes) {
        let _ = fit.boot(None);
        let _ = fit.to_bytes();
    }
});
