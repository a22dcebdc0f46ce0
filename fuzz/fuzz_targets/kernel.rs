#![no_main]
//! Kernel headers of every format.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::kernel;

fuzz_target!(|bytes: &[u8]| {
    let _ = kernel::recognise(bytes);
    let _ = kernel::banner(bytes);
});
