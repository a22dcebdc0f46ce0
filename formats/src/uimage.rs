//! Legacy U-Boot images: a header of 64 bytes in front of the data.
//!
//! Format: `include/image.h` of U-Boot (`struct legacy_img_hdr`); all numbers are big-endian. No
//! crate reads it.

/// First four bytes of the header (`IH_MAGIC`).
pub const MAGIC: u32 = 0x2705_1956;

/// Size of the header in bytes.
pub const HEADER_SIZE: usize = 64;

const NAME_SIZE: usize = 32;

/// Why bytes are no legacy image, in the order in which U-Boot checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not start with [`MAGIC`].
    #[error("bad magic number")]
    BadMagic,
    /// The header's own checksum is wrong.
    #[error("bad header checksum")]
    BadHeaderCrc,
    /// Fewer bytes than the header says, or no whole header.
    #[error("image is truncated: {have} of {need} bytes")]
    Truncated {
        /// Bytes that are needed, header included.
        need: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The checksum of the data is wrong.
    #[error("bad data crc")]
    BadDataCrc,
    /// The table of a multi-file image does not fit its data.
    #[error("bad table of contents")]
    BadParts,
    /// An image of 4 GiB or more to write.
    #[error("image of {0} bytes is too large")]
    TooLarge(u64),
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($constant:ident = $value:literal, $short:literal, $long:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub u8);

        impl $name {
            $(#[doc = concat!("`", $short, "`: ", $long, ".")] pub const $constant: Self = Self($value);)*

            /// The code that mkimage's options call `name`, such as `arm64`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($short => Some(Self($value)),)*
                    _ => None,
                }
            }

            /// What mkimage's options call it; `unknown` for a code that is not listed here.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($value => $short,)*
                    _ => "unknown",
                }
            }

            /// What U-Boot prints of it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self.0 {
                    $($value => $long,)*
                    _ => concat!("Unknown ", stringify!($name)),
                }
            }
        }
    };
}

codes! {
    /// Operating system of an image (`IH_OS_*`).
    Os {
        INVALID = 0, "invalid", "Invalid OS";
        LINUX = 5, "linux", "Linux";
        U_BOOT = 17, "u-boot", "U-Boot";
    }
}

codes! {
    /// Architecture of an image (`IH_ARCH_*`).
    Arch {
        INVALID = 0, "invalid", "Invalid ARCH";
        ARM = 2, "arm", "ARM";
        X86 = 3, "x86", "Intel x86";
        MIPS = 5, "mips", "MIPS";
        MIPS64 = 6, "mips64", "MIPS 64 Bit";
        PPC = 7, "powerpc", "PowerPC";
        ARM64 = 22, "arm64", "AArch64";
        X86_64 = 24, "x86_64", "AMD x86_64";
        RISCV = 26, "riscv", "RISC-V";
    }
}

codes! {
    /// What an image holds (`IH_TYPE_*`).
    ImageType {
        INVALID = 0, "invalid", "Invalid Image";
        STANDALONE = 1, "standalone", "Standalone Program";
        KERNEL = 2, "kernel", "Kernel Image";
        RAMDISK = 3, "ramdisk", "RAMDisk Image";
        MULTI = 4, "multi", "Multi-File Image";
        FIRMWARE = 5, "firmware", "Firmware";
        SCRIPT = 6, "script", "Script";
        FILESYSTEM = 7, "filesystem", "Filesystem Image";
        FLAT_DT = 8, "flat_dt", "Flat Device Tree";
        KERNEL_NOLOAD = 14, "kernel_noload", "Kernel Image (no loading done)";
    }
}

codes! {
    /// How an image's data is compressed (`IH_COMP_*`).
    Comp {
        NONE = 0, "none", "uncompressed";
        GZIP = 1, "gzip", "gzip compressed";
        BZIP2 = 2, "bzip2", "bzip2 compressed";
        LZMA = 3, "lzma", "lzma compressed";
        LZO = 4, "lzo", "lzo compressed";
        LZ4 = 5, "lz4", "lz4 compressed";
        ZSTD = 6, "zstd", "zstd compressed";
    }
}

/// What an image's header says, besides the checksums and the size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// When the image was made, in seconds since 1970.
    pub time: u32,
    /// Where to load the data in memory.
    pub load: u32,
    /// Where to start in memory.
    pub entry: u32,
    /// Operating system.
    pub os: Os,
    pub arch: Arch,
    /// What the data is.
    pub image_type: ImageType,
    /// How the data is compressed.
    pub comp: Comp,
    /// Name, up to 32 bytes; bytes that are no text are replaced.
    pub name: String,
}

/// An image whose checksums are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image<'a> {
    /// Its header.
    pub header: Header,
    /// Its data, still compressed.
    pub data: &'a [u8],
}

/// Whether `bytes` claim to be a legacy image.
#[must_use]
pub fn is_uimage(bytes: &[u8]) -> bool {
    crate::be32(bytes, 0) == Some(MAGIC)
}

/// Checks a legacy image as U-Boot's `bootm` does: magic number, header, then data. What follows
/// the data is left alone.
///
/// # Errors
///
/// See [`Error`].
pub fn parse(bytes: &[u8]) -> Result<Image<'_>, Error> {
    let (header, size, crc) = parse_header(bytes)?;
    let need = HEADER_SIZE as u64 + u64::from(size);
    let data = usize::try_from(need).ok().and_then(|end| bytes.get(HEADER_SIZE..end));
    let data = data.ok_or(Error::Truncated { need, have: bytes.len() as u64 })?;
    if crc32fast::hash(data) != crc {
        return Err(Error::BadDataCrc);
    }
    Ok(Image { header, data })
}

/// Reads a header, and returns the size and the checksum of the data with it.
fn parse_header(bytes: &[u8]) -> Result<(Header, u32, u32), Error> {
    if crate::be32(bytes, 0).is_some_and(|magic| magic != MAGIC) {
        return Err(Error::BadMagic);
    }
    let bytes: [u8; HEADER_SIZE] = crate::array_at(bytes, 0)
        .ok_or(Error::Truncated { need: HEADER_SIZE as u64, have: bytes.len() as u64 })?;
    let number = |index: usize| u32::from_be_bytes(std::array::from_fn(|byte| bytes[index * 4 + byte]));
    let [os, arch, image_type, comp] = number(7).to_be_bytes();
    // The header's checksum is made while its own field is zero.
    let mut blank = bytes;
    blank[4..8].fill(0);
    if crc32fast::hash(&blank) != number(1) {
        return Err(Error::BadHeaderCrc);
    }
    let name = &bytes[HEADER_SIZE - NAME_SIZE..];
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let header = Header {
        time: number(2),
        load: number(4),
        entry: number(5),
        os: Os(os),
        arch: Arch(arch),
        image_type: ImageType(image_type),
        comp: Comp(comp),
        name: String::from_utf8_lossy(name).into_owned(),
    };
    Ok((header, number(3), number(6)))
}

impl<'a> Image<'a> {
    /// The files of a multi-file image (or the one text of a script): a table of their sizes,
    /// ended by a zero, comes first, and each file is padded to 4 bytes. Any other image is its
    /// own only part.
    ///
    /// # Errors
    ///
    /// [`Error::BadParts`] when the table does not fit the data.
    pub fn parts(&self) -> Result<Vec<&'a [u8]>, Error> {
        if ![ImageType::MULTI, ImageType::SCRIPT].contains(&self.header.image_type) {
            return Ok(vec![self.data]);
        }
        let mut sizes = Vec::new();
        loop {
            match crate::be32(self.data, sizes.len() * 4) {
                Some(0) => break,
                Some(size) => sizes.push(size as usize),
                None => return Err(Error::BadParts),
            }
        }
        let mut start = (sizes.len() + 1) * 4;
        let part = |size: usize| {
            let end = start.checked_add(size)?;
            let part = self.data.get(start..end);
            start = crate::align(end, 4);
            part
        };
        sizes.into_iter().map(part).collect::<Option<_>>().ok_or(Error::BadParts)
    }
}

/// Puts a header in front of `data`; a name of more than 32 bytes is cut.
///
/// # Errors
///
/// [`Error::TooLarge`] when `data` has 4 GiB or more.
pub fn write(header: &Header, data: &[u8]) -> Result<Vec<u8>, Error> {
    let size = u32::try_from(data.len()).map_err(|_| Error::TooLarge(data.len() as u64))?;
    let mut bytes = Vec::with_capacity(HEADER_SIZE + data.len());
    for number in [MAGIC, 0, header.time, size, header.load, header.entry, crc32fast::hash(data)] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend([header.os.0, header.arch.0, header.image_type.0, header.comp.0]);
    bytes.extend(header.name.bytes().take(NAME_SIZE));
    bytes.resize(HEADER_SIZE, 0);
    let crc = crc32fast::hash(&bytes);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    bytes.extend(data);
    Ok(bytes)
}

/// The data of a multi-file image (or, of one part, a script), for [`write()`].
///
/// # Errors
///
/// [`Error::TooLarge`] when a part has 4 GiB or more, [`Error::BadParts`] when one is empty,
/// which the format can't tell from the table's end.
pub fn join_parts(parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let mut data = Vec::new();
    for part in parts {
        if part.is_empty() {
            return Err(Error::BadParts);
        }
        let size = u32::try_from(part.len()).map_err(|_| Error::TooLarge(part.len() as u64))?;
        data.extend(size.to_be_bytes());
    }
    data.extend([0; 4]);
    for part in parts {
        data.resize(crate::align(data.len(), 4), 0);
        data.extend(*part);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(image_type: ImageType) -> Header {
        Header {
            time: 0,
            load: 0x8000_8000,
            entry: 0x8000_8040,
            os: Os::LINUX,
            arch: Arch::ARM,
            image_type,
            comp: Comp::NONE,
            name: "Linux-6.1.83-ghost".into(),
        }
    }

    #[test]
    fn each_kind_of_damage_is_its_own_error() {
        let good = write(&header(ImageType::KERNEL), b"kernel").unwrap();
        assert!(parse(&good).is_ok());
        let damaged = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            parse(&bytes).err()
        };
        assert_eq!(damaged(0), Some(Error::BadMagic));
        assert_eq!(damaged(5), Some(Error::BadHeaderCrc));
        assert_eq!(damaged(40), Some(Error::BadHeaderCrc));
        assert_eq!(damaged(64), Some(Error::BadDataCrc));
        assert_eq!(parse(&good[..69]), Err(Error::Truncated { need: 70, have: 69 }));
        assert_eq!(parse(&good[..63]), Err(Error::Truncated { need: 64, have: 63 }));
    }

    #[test]
    fn what_follows_the_data_is_left_alone() {
        let mut bytes = write(&header(ImageType::RAMDISK), b"cpio").unwrap();
        bytes.extend(b"old memory");
        assert_eq!(parse(&bytes).unwrap().data, b"cpio");
    }

    #[test]
    fn codes_have_the_names_of_mkimage_and_of_u_boot() {
        assert_eq!(Arch::from_name("arm64"), Some(Arch::ARM64));
        assert_eq!(ImageType::RAMDISK.title(), "RAMDisk Image");
        assert_eq!(Comp(99).name(), "unknown");
    }

    proptest! {
        #[test]
        fn any_image_comes_back(
            (time, load, entry) in any::<(u32, u32, u32)>(),
            (os, arch, image_type, comp) in any::<(u8, u8, u8, u8)>(),
            name in "[a-zA-Z0-9 ._-]{0,32}",
            data in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (os, arch, image_type, comp) = (Os(os), Arch(arch), ImageType(image_type), Comp(comp));
            let header = Header { time, load, entry, os, arch, image_type, comp, name };
            let bytes = write(&header, &data).unwrap();
            prop_assert_eq!(parse(&bytes).unwrap(), Image { header, data: &data });
        }

        #[test]
        fn any_parts_come_back(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..5),
        ) {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let bytes = write(&header(ImageType::MULTI), &join_parts(&parts).unwrap()).unwrap();
            prop_assert_eq!(parse(&bytes).unwrap().parts().unwrap(), parts);
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            data in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = parse(&bytes);
            let _ = parse(&[&MAGIC.to_be_bytes()[..], &bytes].concat());
            let _ = parse(&write(&header(ImageType::MULTI), &data).unwrap()).unwrap().parts();
        }
    }
}
