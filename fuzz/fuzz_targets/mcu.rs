#![no_main]
//! Programs of microcontrollers.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::mcu;

fuzz_target!(|bytes: &[u8]| {
    let _ = mcu::check(bytes, 0..0x8_0000, 0x2000_0000..0x2001_0000);
    let _ = mcu::text(bytes);
});
