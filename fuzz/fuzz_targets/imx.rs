#![no_main]
//! Boot images of i.MX processors.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::imx;

fuzz_target!(|bytes: &[u8]| {
    let _ = imx::check(bytes);
    let _ = imx::text(bytes);
});
