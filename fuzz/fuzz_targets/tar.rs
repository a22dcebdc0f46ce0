#![no_main]
//! Overlays, modules, NFS roots.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::tar;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = tar::read(bytes)
        && let Ok(written) = tar::write(&tree)
    {
        assert!(tar::read(&written).is_ok());
    }
});
