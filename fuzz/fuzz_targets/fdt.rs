#![no_main]
//! Device trees: what was read can be written, and reads the same; and is applied as an overlay, or refused.

use libfuzzer_sys::fuzz_target;
use meta_lava_formats::fdt;

fuzz_target!(|bytes: &[u8]| {
    let _ = fdt::total_size(bytes);
    if let Ok(tree) = fdt::parse(bytes) {
        let _ = (tree.model(), tree.bootargs());
        let _ = fdt::overlay::apply(&mut tree.clone(), &tree);
        if let Ok(written) = tree.to_bytes() {
            assert!(fdt::parse(&written).is_ok());
        }
    }
});
