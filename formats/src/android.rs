//! Android boot images: kernel, ramdisk and device tree in front of each other, in pages.
//!
//! Format: `include/bootimg/bootimg.h` of Android's `system/tools/mkbootimg`, versions 0 to 2; all
//! numbers are little-endian. From version 3 on the ramdisk comes in two images, of which a
//! `fastboot boot` sends one only. No crate that is kept up reads it.

use sha1::{Digest, Sha1};

/// First eight bytes (`BOOT_MAGIC`).
pub const MAGIC: &[u8; 8] = b"ANDROID!";

const NAME: usize = 48;
const CMDLINE: usize = 64;
const CMDLINE_SIZE: usize = 512;
const ID: usize = 576;
const EXTRA_CMDLINE: usize = 608;
const EXTRA_CMDLINE_SIZE: usize = 1024;
/// Size of the header by version.
const HEADER_SIZES: [usize; 3] = [1632, 1648, 1660];

/// Why bytes are no boot image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not start with [`MAGIC`].
    #[error("no boot image: it does not begin with ANDROID!")]
    BadMagic,
    /// A version that is not read here.
    #[error("boot image of header version {0}; 0 to 2 are known")]
    Version(u32),
    /// Neither 2048 nor another power of two up to 16384.
    #[error("page size {0}")]
    PageSize(u32),
    /// Fewer bytes than the header says.
    #[error("boot image is truncated: {have} of {need} bytes")]
    Truncated {
        /// Bytes that are needed.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// There is no kernel in it.
    #[error("boot image without a kernel")]
    NoKernel,
    /// A command line, or a part, that does not fit.
    #[error("{0} is too long for a boot image")]
    TooLong(&'static str),
}

/// What is in a boot image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image<'a> {
    /// The kernel, compressed or not, perhaps with a device tree behind it.
    pub kernel: &'a [u8],
    /// The ramdisk; empty where there is none.
    pub ramdisk: &'a [u8],
    /// The device tree of version 2; empty where there is none.
    pub dtb: &'a [u8],
    /// The kernel command line.
    pub cmdline: String,
}

/// Reads a boot image.
///
/// # Errors
/// See [`Error`].
pub fn parse(bytes: &[u8]) -> Result<Image<'_>, Error> {
    if !bytes.starts_with(MAGIC) {
        return Err(Error::BadMagic);
    }
    let have = bytes.len() as u64;
    let number = |at: usize| {
        let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
        field.map(u32::from_le_bytes).ok_or(Error::Truncated { need: at as u64 + 4, have })
    };
    let version = number(40)?;
    let header = HEADER_SIZES.get(version as usize).copied().ok_or(Error::Version(version))?;
    if bytes.len() < header {
        return Err(Error::Truncated { need: header as u64, have });
    }
    let page = number(36)?;
    if !page.is_power_of_two() || !(2048..=16384).contains(&page) {
        return Err(Error::PageSize(page));
    }
    let dtbo = if version >= 1 { number(1632)? } else { 0 };
    let dtb = if version >= 2 { number(1648)? } else { 0 };
    // In this order behind the header, each from a page on.
    let mut next = u64::from(page);
    let mut part = |size: u32| {
        let start = next;
        next += u64::from(size).next_multiple_of(page.into());
        let need = start + u64::from(size);
        // Both are below the length, which fits.
        bytes.get(start as usize..need as usize).ok_or(Error::Truncated { need, have })
    };
    let (kernel, ramdisk) = (part(number(8)?)?, part(number(16)?)?);
    let _second = part(number(24)?)?;
    let _dtbo = part(dtbo)?;
    let dtb = part(dtb)?;
    if kernel.is_empty() {
        return Err(Error::NoKernel);
    }
    let text = |at: usize, size: usize| {
        let field = bytes.get(at..at + size).unwrap_or_default();
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(size);
        String::from_utf8_lossy(&field[..end]).into_owned()
    };
    let cmdline = text(CMDLINE, CMDLINE_SIZE) + &text(EXTRA_CMDLINE, EXTRA_CMDLINE_SIZE);
    Ok(Image { kernel, ramdisk, dtb, cmdline })
}

/// Makes a boot image of version 2, in pages of 2048 bytes.
///
/// # Errors
/// [`Error::TooLong`].
pub fn write(image: &Image<'_>) -> Result<Vec<u8>, Error> {
    const PAGE: usize = 2048;
    const VERSION: u32 = 2;
    // One byte is the end's.
    if image.cmdline.len() >= CMDLINE_SIZE {
        return Err(Error::TooLong("a command line"));
    }
    let size = |part: &[u8]| u32::try_from(part.len()).map_err(|_| Error::TooLong("a part"));
    let mut bytes = vec![0; PAGE];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, MAGIC);
    let numbers = [
        (8, size(image.kernel)?),
        // mkbootimg's addresses: its base, and the offsets to it.
        (12, 0x1000_8000),
        (16, size(image.ramdisk)?),
        (20, 0x1100_0000),
        (28, 0x10f0_0000),
        (32, 0x1000_0100),
        (36, PAGE as u32),
        (40, VERSION),
        (1644, HEADER_SIZES[VERSION as usize] as u32),
        (1648, size(image.dtb)?),
        (1652, 0x11f0_0000),
    ];
    for (at, number) in numbers {
        put(at, &number.to_le_bytes());
    }
    put(NAME, b"ghost");
    put(CMDLINE, image.cmdline.as_bytes());
    // What mkbootimg makes of the parts, so that two images differ where their parts do.
    let mut id = Sha1::new();
    for part in [image.kernel, image.ramdisk, &[], &[], image.dtb] {
        id.update(part);
        id.update(size(part)?.to_le_bytes());
    }
    put(ID, &id.finalize());
    for part in [image.kernel, image.ramdisk, image.dtb] {
        bytes.extend_from_slice(part);
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image() -> Image<'static> {
        Image { kernel: b"kernel", ramdisk: &[7; 3000], dtb: b"dtb", cmdline: "console=ttyMSM0".into() }
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = write(&image()).unwrap();
        assert_eq!(parse(&bytes), Ok(image()));
        assert_eq!(bytes.len() % 2048, 0);
    }

    #[test]
    fn what_is_no_boot_image_is_told_why() {
        let good = write(&image()).unwrap();
        let with = |at: usize, number: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            parse(&bytes).map(drop).unwrap_err()
        };
        assert_eq!(parse(b"rubbish"), Err(Error::BadMagic));
        assert_eq!(with(40, 4), Error::Version(4));
        assert_eq!(with(36, 1000), Error::PageSize(1000));
        assert_eq!(with(8, 0), Error::NoKernel);
        assert!(matches!(with(8, u32::MAX), Error::Truncated { .. }));
        assert!(matches!(parse(&good[..5000]), Err(Error::Truncated { have: 5000, .. })));
        let long = Image { cmdline: "x".repeat(512), ..image() };
        assert_eq!(write(&long), Err(Error::TooLong("a command line")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_image_or_an_error(tail in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(tail);
            let _ = parse(&bytes);
        }

        #[test]
        fn any_parts_come_back(
            kernel in prop::collection::vec(any::<u8>(), 1..5000),
            ramdisk in prop::collection::vec(any::<u8>(), 0..5000),
            dtb in prop::collection::vec(any::<u8>(), 0..5000),
            cmdline in "[ -~]{0,100}",
        ) {
            let image = Image { kernel: &kernel, ramdisk: &ramdisk, dtb: &dtb, cmdline };
            let bytes = write(&image).unwrap();
            prop_assert_eq!(parse(&bytes), Ok(image));
        }
    }
}
