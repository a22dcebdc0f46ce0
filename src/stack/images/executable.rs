//! Our own executable, as a file of an image.

use std::path::PathBuf;

use super::recipe::{Content, File, unreadable};
use crate::error::{Error, Result};

/// Through the link, so that it is found when it was replaced while running.
const OWN: &str = "/proc/self/exe";

/// Our own executable, which is the ghost and the world in the images.
///
/// # Errors
/// [`Error::Infrastructure`] when it would not run there.
pub(super) fn own(architecture: &str) -> Result<File> {
    let hash = meta_lava_formats::sha256(&bytes(architecture)?);
    Ok(File { executable: true, hash, content: Content::At(OWN.into()) })
}

/// Its bytes.
///
/// # Errors
/// As [`own`].
pub fn bytes(architecture: &str) -> Result<Vec<u8>> {
    let path = PathBuf::from(OWN);
    let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
    check(&bytes, architecture).map_err(|reason| {
        Error::infrastructure(format!("this executable can't be the ghost in the images: {reason}"))
    })?;
    Ok(bytes)
}

/// Whether an executable runs in any image of an architecture: statically
/// linked, and for it.
fn check(elf: &[u8], architecture: &str) -> Result<(), String> {
    let bytes = |at: usize, count: usize| -> Result<u64, String> {
        let bytes = elf.get(at..at + count).ok_or("it is cut short")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is no 64-bit little-endian ELF".into());
    }
    let machine = match bytes(18, 2)? {
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        21 => "ppc64le",
        _ => "another machine",
    };
    if machine != architecture {
        return Err(format!("it is for {machine}, but the Docker engine runs on {architecture}"));
    }
    let number = |at, count| bytes(at, count).map(|value| usize::try_from(value).unwrap_or(usize::MAX / 4));
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        const PT_INTERP: u64 = 3;
        if bytes(table.saturating_add(index * size), 4)? == PT_INTERP {
            return Err("it is linked dynamically; build it with `cargo build` in this repository, whose \
                        .cargo/config.toml links statically, and without RUSTFLAGS in the environment"
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_architecture() -> &'static str {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    #[test]
    fn a_dynamic_or_foreign_executable_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check(&own, host_architecture()), Ok(()));
        assert!(check(&own, "s390x").unwrap_err().contains("s390x"));
        assert!(check(b"#!/bin/sh", "amd64").is_err());
        assert!(check(&own[..70], host_architecture()).is_err());
        // Any program of a distribution is dynamic.
        if let Ok(shell) = std::fs::read("/bin/sh") {
            assert!(check(&shell, host_architecture()).unwrap_err().contains("dynamically"));
        }
    }
}
