#![no_main]
//! The ledger and what a worker hands out, line by line.

use libfuzzer_sys::fuzz_target;
use meta_lava_ghost::collect::Collected;
use meta_lava_ghost::ledger::Entry;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(collected) = serde_json::from_slice::<Collected>(bytes) {
        for line in collected.ledger.lines() {
            let _ = serde_json::from_str::<Entry>(line);
        }
    }
    let _ = serde_json::from_slice::<Entry>(bytes);
});
