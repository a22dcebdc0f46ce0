#![no_main]
//! Board files with their firmware's settings, scripts of recorded boards among them.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = meta_lava_ghost::firmware::load("fuzzed", text) {
        let _ = error.to_string();
    }
});
