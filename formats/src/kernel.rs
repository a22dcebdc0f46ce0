//! Kernel images of the architectures that ghosts boot: recognised and checked as firmware does,
//! and small ones made.
//!
//! Formats: the kernel's `Documentation/arch/arm64/booting.rst`, `Documentation/arch/arm/` and
//! `arch/arm/boot/compressed/head.S`, `Documentation/arch/riscv/boot-image-header.rst`,
//! `Documentation/arch/x86/boot.rst`. No crate reads more than one of them.

use crate::compress::{self, decompress_prefix};
use crate::{le32, le64};

/// The most that a compressed kernel is unpacked to, in bytes.
pub const MAX_KERNEL: usize = 256 << 20;

/// The version of the kernels made here, as `uname -r` would print it.
pub const RELEASE: &str = "6.1.83-ghost";

const ARM64_MAGIC: u32 = u32::from_le_bytes(*b"ARM\x64");
const RISCV_MAGIC2: u32 = u32::from_le_bytes(*b"RSC\x05");
const ZIMAGE_MAGIC: u32 = 0x016f_2818;
const X86_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");

/// A kind of kernel image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// arm64 `Image`: U-Boot's `booti`.
    Arm64Image,
    /// arm `zImage`: U-Boot's `bootz`.
    ArmZImage,
    /// riscv `Image`: U-Boot's `booti`.
    RiscvImage,
    /// x86 `bzImage`: GRUB's `linux`, iPXE's `kernel`.
    X86BzImage,
}

/// What a kernel image says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Its format.
    pub format: Format,
    /// Where it wants to be, in bytes from the start of memory (`Image`), its start address
    /// (`zImage`) or its preferred address (`bzImage`).
    pub load_offset: u64,
    /// Bytes of memory it takes from there, `.bss` included (`Image`); bytes of the file
    /// (`zImage`); bytes of the file without the setup code (`bzImage`).
    pub image_size: u64,
}

/// Why bytes are not a kernel image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No magic number of a kernel at its place.
    #[error("bad kernel image magic")]
    BadMagic,
    /// The magic number is there, the rest of the kernel is not.
    #[error("kernel is truncated: {have} of {need} bytes")]
    Truncated {
        /// Bytes that are needed.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// Sizes or addresses that no kernel has.
    #[error("bad kernel header: {0}")]
    BadHeader(&'static str),
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Arm64Image, Self::ArmZImage, Self::RiscvImage, Self::X86BzImage];

    /// Where the magic number is, and what it is.
    const fn magic(self) -> (usize, u32) {
        match self {
            Self::Arm64Image => (56, ARM64_MAGIC),
            Self::RiscvImage => (56, RISCV_MAGIC2),
            Self::ArmZImage => (0x24, ZIMAGE_MAGIC),
            Self::X86BzImage => (0x202, X86_MAGIC),
        }
    }

    /// Checks that `bytes` are a kernel of this format. A compressed kernel is not: whoever
    /// unpacks before booting does so before this.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn check(self, bytes: &[u8]) -> Result<Kernel, Error> {
        let (offset, magic) = self.magic();
        if le32(bytes, offset) != Some(magic) {
            return Err(Error::BadMagic);
        }
        let have = bytes.len() as u64;
        let short = |need: u64| Error::Truncated { need, have };
        let (load_offset, image_size) = match self {
            Self::Arm64Image | Self::RiscvImage => {
                let text_offset = le64(bytes, 8).ok_or(short(64))?;
                let image_size = le64(bytes, 16).ok_or(short(64))?;
                // Before Linux 3.17 arm64 had no image_size: then 0, and the offset was 0x80000.
                if image_size == 0 { (0x80000, have) } else { (text_offset, image_size) }
            }
            Self::ArmZImage => {
                let start = le32(bytes, 0x28).ok_or(short(0x30))?;
                let end = le32(bytes, 0x2c).ok_or(short(0x30))?;
                let size = end.checked_sub(start).ok_or(Error::BadHeader("end before start"))?;
                if u64::from(size) > have {
                    return Err(short(size.into()));
                }
                (start.into(), size.into())
            }
            Self::X86BzImage => {
                if bytes.get(0x1fe..0x200) != Some(&[0x55, 0xaa]) {
                    return Err(Error::BadMagic);
                }
                let version = crate::array_at(bytes, 0x206).map(u16::from_le_bytes).ok_or(short(0x260))?;
                // 0 setup sectors mean 4, for the sake of very old loaders.
                let sectors = match bytes.get(0x1f1) {
                    Some(0) | None => 4,
                    Some(sectors) => u64::from(*sectors),
                };
                // Counted in units of 16 bytes.
                let size = u64::from(le32(bytes, 0x1f4).ok_or(short(0x260))?) * 16;
                let need = (sectors + 1) * 512 + size;
                if need > have {
                    return Err(short(need));
                }
                let preferred = if version >= 0x20a { le64(bytes, 0x258) } else { None };
                (preferred.unwrap_or(0x10_0000), size)
            }
        };
        Ok(Kernel { format: self, load_offset, image_size })
    }
}

/// The kernel that `bytes` are, whatever its format.
///
/// # Errors
///
/// [`Error::BadMagic`] when they are none; else see [`Format::check`].
pub fn recognise(bytes: &[u8]) -> Result<Kernel, Error> {
    for format in Format::ALL {
        match format.check(bytes) {
            Err(Error::BadMagic) => {}
            result => return result,
        }
    }
    Err(Error::BadMagic)
}

/// The line `Linux version ...` that a kernel prints first, without the end of line.
///
/// Looked for in the bytes themselves, in what they are compressed to, in gzip streams inside (a
/// `zImage` has one) and, for a `bzImage`, in the version that its header points to.
#[must_use]
pub fn banner(bytes: &[u8]) -> Option<String> {
    if compress::Format::of(bytes) != compress::Format::None {
        let (unpacked, _) = decompress_prefix(bytes, MAX_KERNEL).ok()?;
        return plain_banner(&unpacked);
    }
    plain_banner(bytes).or_else(|| inner_banner(bytes)).or_else(|| x86_version(bytes))
}

/// The first `Linux version ` that a digit follows: the kernel also holds the format string.
fn plain_banner(bytes: &[u8]) -> Option<String> {
    const START: &[u8] = b"Linux version ";
    let mut from = 0;
    loop {
        let at = crate::find(bytes, START, from)?;
        let line = bytes.get(at..)?;
        if line.get(START.len()).is_some_and(u8::is_ascii_digit) {
            return Some(printable(line));
        }
        from = at + START.len();
    }
}

fn printable(bytes: &[u8]) -> String {
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    bytes.iter().take(1024).take_while(|byte| printable(byte)).map(|byte| char::from(*byte)).collect()
}

fn inner_banner(bytes: &[u8]) -> Option<String> {
    // A stream's magic number is short enough to turn up by chance a few times.
    const MAX_TRIES: usize = 16;
    let mut from = 1;
    for _ in 0..MAX_TRIES {
        let at = crate::find(bytes, b"\x1f\x8b\x08", from)?;
        let unpacked = bytes.get(at..).and_then(|stream| decompress_prefix(stream, MAX_KERNEL).ok());
        if let Some(banner) = unpacked.and_then(|(unpacked, _)| plain_banner(&unpacked)) {
            return Some(banner);
        }
        from = at + 3;
    }
    None
}

fn x86_version(bytes: &[u8]) -> Option<String> {
    Format::X86BzImage.check(bytes).ok()?;
    let offset = u16::from_le_bytes(crate::array_at(bytes, 0x20e)?);
    let version = printable(bytes.get(usize::from(offset) + 0x200..)?);
    (offset != 0 && !version.is_empty()).then(|| format!("Linux version {version}"))
}

/// The banner of the kernels made here for an architecture as `uname -m` names it: what a kernel
/// of this [`RELEASE`] would print.
#[must_use]
pub fn ghost_banner(machine: &str) -> String {
    format!(
        "Linux version {RELEASE} (meta-lava@ghost) ({machine}-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0, \
         GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT Thu Jan  1 00:00:00 UTC 1970"
    )
}

/// Makes a kernel that any firmware takes for one: the header of `format`, `banner` inside, and
/// filling up to `size` bytes (or as many as it needs; at most [`MAX_KERNEL`]).
///
/// The filling is not all alike, so that a part of the file that is lost or mixed up is noticed
/// and compressing it does not make it vanish.
#[must_use]
pub fn write(format: Format, banner: &str, size: usize) -> Vec<u8> {
    /// Where the header ends and the banner starts.
    const TEXT: usize = 0x400;
    let size = size.min(MAX_KERNEL).max(TEXT + banner.len() + 2).next_multiple_of(512);
    let mut bytes: Vec<u8> = filling().take(size).collect();
    bytes[..TEXT].fill(0);
    let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
    put(TEXT, banner.as_bytes());
    put(TEXT + banner.len(), b"\n\0");
    let (offset, magic) = format.magic();
    put(offset, &magic.to_le_bytes());
    match format {
        Format::Arm64Image => {
            put(16, &(size as u64).to_le_bytes());
            // Little-endian, pages of 4 KiB, anywhere in memory.
            put(24, &0b1010u64.to_le_bytes());
        }
        Format::RiscvImage => {
            put(8, &0x20_0000u64.to_le_bytes());
            put(16, &(size as u64).to_le_bytes());
            // Version 0.2 of the header.
            put(32, &2u32.to_le_bytes());
            put(48, b"RISCV\0\0\0");
        }
        Format::ArmZImage => {
            // `size` is at most MAX_KERNEL, so this is all of it.
            put(0x2c, &(size as u32).to_le_bytes());
            put(0x30, &0x0403_0201u32.to_le_bytes());
        }
        Format::X86BzImage => {
            // One sector for the boot sector, one of setup code.
            put(0x1f1, &[1]);
            put(0x1f4, &(((size - 1024) / 16) as u32).to_le_bytes());
            put(0x1fe, &[0x55, 0xaa]);
            put(0x206, &0x20fu16.to_le_bytes());
            let version = banner.strip_prefix("Linux version ").map_or(TEXT, |_| TEXT + 14);
            put(0x20e, &((version - 0x200) as u16).to_le_bytes());
            // Loaded high, as a bzImage is.
            put(0x211, &[1]);
            put(0x258, &0x100_0000u64.to_le_bytes());
            put(0x260, &(size as u32).to_le_bytes());
        }
    }
    bytes
}

/// Bytes without an end that do not compress (xorshift32, Marsaglia 2003).
fn filling() -> impl Iterator<Item = u8> {
    let mut state = 0x6d65_7461u32;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        Some(state.to_le_bytes()[3])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_format_is_told_from_the_others() {
        for format in Format::ALL {
            let bytes = write(format, &ghost_banner("any"), 5000);
            assert_eq!(recognise(&bytes).unwrap().format, format);
            for other in Format::ALL.into_iter().filter(|other| *other != format) {
                assert_eq!(other.check(&bytes), Err(Error::BadMagic));
            }
        }
    }

    #[test]
    fn a_zimage_or_bzimage_that_was_cut_is_noticed() {
        for format in [Format::ArmZImage, Format::X86BzImage] {
            let bytes = write(format, "Linux version 6.1", 4096);
            let result = format.check(&bytes[..4000]);
            assert_eq!(result, Err(Error::Truncated { need: 4096, have: 4000 }));
        }
    }

    #[test]
    fn the_banner_is_found_plain_packed_and_inside() {
        let banner = ghost_banner("aarch64");
        let image = write(Format::Arm64Image, &banner, 4096);
        assert_eq!(super::banner(&image).as_ref(), Some(&banner));
        assert_eq!(super::banner(&compress::gzip(&image).unwrap()).as_ref(), Some(&banner));
        assert_eq!(super::banner(&compress::xz(&image).unwrap()).as_ref(), Some(&banner));
        let inside = [&b"loader"[..], &compress::gzip(&image).unwrap(), b"device tree"].concat();
        assert_eq!(super::banner(&inside).as_ref(), Some(&banner));
    }

    #[test]
    fn the_format_string_is_no_banner() {
        assert_eq!(
            banner(b"Linux version %s (%s)\0Linux version 6.1.0\n\0").as_deref(),
            Some("Linux version 6.1.0")
        );
        assert_eq!(banner(b"Linux version %s (%s)"), None);
    }

    #[test]
    fn the_version_of_a_bzimage_is_found_through_its_header() {
        let mut bytes = write(Format::X86BzImage, "Linux version 6.1.0 (a@b)", 2048);
        bytes[0x400] = b'l';
        assert_eq!(banner(&bytes).as_deref(), Some("Linux version 6.1.0 (a@b)"));
    }

    #[test]
    fn the_same_kernel_is_made_each_time() {
        let make = || write(Format::RiscvImage, &ghost_banner("riscv64"), 20_000);
        assert_eq!(make(), make());
    }

    proptest! {
        #[test]
        fn any_size_and_banner_make_a_valid_kernel(size in 0usize..40_000, banner in "[ -~]{0,300}") {
            for format in Format::ALL {
                let bytes = write(format, &banner, size);
                prop_assert!(bytes.len() >= size);
                prop_assert_eq!(recognise(&bytes).map(|kernel| kernel.format), Ok(format));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..1200),
            format in prop::sample::select(Format::ALL.to_vec()),
        ) {
            let (offset, magic) = format.magic();
            if let Some(place) = bytes.get_mut(offset..offset + 4) {
                place.copy_from_slice(&magic.to_le_bytes());
            }
            let _ = recognise(&bytes);
            let _ = banner(&bytes);
        }
    }
}
