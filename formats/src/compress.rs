//! Compressed streams, told apart by their first bytes.
//!
//! LAVA unpacks and packs ramdisks with the system's gzip, xz, lzma, bzip2 and zstd; a board's
//! firmware and kernel take what they find. All decoders are in Rust (`flate2`, `lzma-rust2`,
//! `bzip2` with its Rust library, `ruzstd`), so that the one executable stays static.

use std::borrow::Cow;
use std::io::{Read, Write};

use bzip2::bufread::MultiBzDecoder;
use bzip2::write::BzEncoder;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use lzma_rust2::{CheckType, LzmaOptions, LzmaReader, LzmaWriter, XzOptions, XzReader, XzWriter};
use ruzstd::decoding::FrameDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// The most memory that a decoder takes for its window, in KiB: `xz -9` wants 65 MiB,
/// `zstd --ultra -22` wants 128 MiB.
const MAX_WINDOW: u32 = 192 << 10;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not at all, or in a way that is not known here.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// xz, the .xz file format 1.2.
    Xz,
    /// The older .lzma or "LZMA alone": what U-Boot and depthcharge call lzma.
    Lzma,
    /// bzip2.
    Bzip2,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Why bytes can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is damaged, ends early, or needs a window of more than 192 MiB.
    #[error("broken {0} stream: {1}")]
    Broken(Format, String),
    /// More comes out than the caller allows.
    #[error("unpacks to more than {0} bytes")]
    TooLarge(usize),
    /// Bytes behind the stream that are neither zero nor another stream.
    #[error("{bytes} bytes of garbage behind the {format} stream")]
    TrailingGarbage {
        /// The stream's format.
        format: Format,
        /// How many bytes follow.
        bytes: usize,
    },
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Zstd => "zstd",
        })
    }
}

impl Format {
    /// The format that `bytes` start as.
    ///
    /// "LZMA alone" has no magic number: taken for it is what has the usual properties (0x5d), a
    /// dictionary of at least 64 KiB and a size that is unknown or below 1 TiB.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0x5d, 0, 0, _, _, size @ ..]
                if size.starts_with(&[0xff; 8]) || size.get(5..8) == Some(&[0, 0, 0]) =>
            {
                Self::Lzma
            }
            _ => Self::None,
        }
    }
}

/// Unpacks `bytes`, by their magic number, to at most `limit` bytes; what is not compressed is
/// given back as it is. Several streams in a row are one, and zeros may follow.
///
/// # Errors
///
/// See [`Error`].
pub fn decompress(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, Error> {
    let (unpacked, rest) = decompress_prefix(bytes, limit)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Error::TrailingGarbage { format: Format::of(bytes), bytes: rest.len() });
    }
    Ok(unpacked)
}

/// Like [`decompress`], but gives back what follows a gzip stream, such as the device tree of an
/// `Image.gz-dtb`. Of the other formats all bytes must belong to the stream.
///
/// # Errors
///
/// See [`Error`]; never [`Error::TrailingGarbage`].
pub fn decompress_prefix(bytes: &[u8], limit: usize) -> Result<(Cow<'_, [u8]>, &[u8]), Error> {
    let format = Format::of(bytes);
    let broken = |error: std::io::Error| Error::Broken(format, error.to_string());
    let mut output = Vec::new();
    let mut rest: &[u8] = &[];
    match format {
        Format::None if bytes.len() > limit => return Err(Error::TooLarge(limit)),
        Format::None => return Ok((Cow::Borrowed(bytes), rest)),
        Format::Gzip => {
            rest = bytes;
            while Format::of(rest) == Format::Gzip {
                let mut decoder = GzDecoder::new(rest);
                read_limited(&mut decoder, &mut output, limit, format)?;
                rest = decoder.into_inner();
            }
        }
        Format::Xz => {
            let mut decoder = XzReader::new_mem_limit(bytes, true, MAX_WINDOW);
            read_limited(&mut decoder, &mut output, limit, format)?;
        }
        Format::Lzma => {
            let mut decoder = LzmaReader::new_mem_limit(bytes, MAX_WINDOW, None).map_err(broken)?;
            read_limited(&mut decoder, &mut output, limit, format)?;
        }
        Format::Bzip2 => read_limited(&mut MultiBzDecoder::new(bytes), &mut output, limit, format)?,
        Format::Zstd => zstd_frames(bytes, &mut output, limit)?,
    }
    Ok((Cow::Owned(output), rest))
}

fn read_limited(
    decoder: &mut impl Read,
    output: &mut Vec<u8>,
    limit: usize,
    format: Format,
) -> Result<(), Error> {
    // One byte more than allowed, to tell a full output from a bomb.
    let allowed = limit.saturating_sub(output.len()) as u64 + 1;
    decoder.take(allowed).read_to_end(output).map_err(|error| Error::Broken(format, error.to_string()))?;
    if output.len() > limit { Err(Error::TooLarge(limit)) } else { Ok(()) }
}

fn zstd_frames(mut bytes: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), Error> {
    use ruzstd::decoding::StreamingDecoder;

    let broken = |reason: String| Error::Broken(Format::Zstd, reason);
    while !bytes.is_empty() {
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] = bytes {
            // A skippable frame: its size in bytes follows the magic number.
            let size = crate::le32(bytes, 4).and_then(|size| usize::try_from(size).ok());
            bytes = size
                .and_then(|size| bytes.get(8..)?.get(size..))
                .ok_or_else(|| broken("skippable frame ends early".into()))?;
            continue;
        }
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::from(MAX_WINDOW) << 10);
        let mut stream =
            StreamingDecoder::new_with_decoder(bytes, decoder).map_err(|error| broken(error.to_string()))?;
        read_limited(&mut stream, output, limit, Format::Zstd)?;
        let (rest, decoder) = stream.into_parts();
        let expected = decoder.get_checksum_from_data();
        if expected.is_some() && expected != decoder.get_calculated_checksum() {
            return Err(broken("wrong checksum".into()));
        }
        bytes = rest;
    }
    Ok(())
}

// What the writers below report can't happen while they write to memory; they keep the signature
// of `Write` so that nothing has to panic.

/// `bytes` as one gzip stream, as small as `gzip -9` makes it, without a name or a time.
///
/// # Errors
///
/// Those of the encoder.
pub fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// `bytes` as one xz stream with CRC32 checks, which is what a kernel's decoder takes.
///
/// # Errors
///
/// Those of the encoder.
pub fn xz(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut options = XzOptions::with_preset(6);
    options.set_check_sum_type(CheckType::Crc32);
    let mut encoder = XzWriter::new(Vec::new(), options)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// `bytes` as one "LZMA alone" stream with its size in the header, which is what U-Boot takes.
///
/// # Errors
///
/// Those of the encoder.
pub fn lzma(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let options = LzmaOptions::with_preset(6);
    let mut encoder = LzmaWriter::new_use_header(Vec::new(), &options, Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// `bytes` as one Zstandard frame, at the encoder's one level (about `zstd -1`).
#[must_use]
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// `bytes` as one bzip2 stream.
///
/// # Errors
///
/// None: it is in memory.
pub fn bzip2(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_of(bytes: &[u8]) -> [(Format, Vec<u8>); 5] {
        [
            (Format::Gzip, gzip(bytes).unwrap()),
            (Format::Xz, xz(bytes).unwrap()),
            (Format::Lzma, lzma(bytes).unwrap()),
            (Format::Zstd, zstd(bytes)),
            (Format::Bzip2, bzip2(bytes).unwrap()),
        ]
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        for (format, bomb) in all_of(&zeros) {
            assert!(matches!(decompress(&bomb, 1 << 16), Err(Error::TooLarge(65536))), "{format}");
            assert_eq!(decompress(&bomb, 1 << 20).unwrap().len(), 1 << 20, "{format}");
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_refused() {
        let bytes: Vec<u8> = (0..4000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for (format, stream) in all_of(&bytes) {
            for cut in [1, 9, stream.len() / 2] {
                let result = decompress(&stream[..stream.len() - cut], 1 << 20);
                assert!(matches!(result, Err(Error::Broken(..))), "{format} less {cut}: {result:?}");
            }
        }
    }

    #[test]
    fn what_follows_a_gzip_stream_is_given_back() {
        let mut bytes = gzip(b"kernel").unwrap();
        bytes.extend(b"device tree");
        let (kernel, rest) = decompress_prefix(&bytes, 100).unwrap();
        assert_eq!((&*kernel, rest), (&b"kernel"[..], &b"device tree"[..]));
        assert!(matches!(decompress(&bytes, 100), Err(Error::TrailingGarbage { bytes: 11, .. })));
    }

    #[test]
    fn streams_in_a_row_are_one_and_padding_is_none() {
        for (format, mut bytes) in all_of(b"one, ").into_iter().filter(|(format, _)| *format != Format::Lzma)
        {
            let second = all_of(b"two").into_iter().find(|(other, _)| *other == format);
            bytes.extend(second.unwrap().1);
            assert_eq!(*decompress(&bytes, 100).unwrap(), *b"one, two", "{format}");
        }
        let mut padded = gzip(b"one").unwrap();
        padded.extend([0; 512]);
        assert_eq!(*decompress(&padded, 100).unwrap(), *b"one");
    }

    #[test]
    fn what_is_not_compressed_is_not_copied() {
        assert!(matches!(decompress(b"070701", 10), Ok(Cow::Borrowed(b"070701"))));
        assert!(matches!(decompress(b"070701", 3), Err(Error::TooLarge(3))));
    }

    #[test]
    fn a_wrong_zstd_checksum_is_noticed() {
        let mut bytes = zstd(b"content");
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        assert!(decompress(&bytes, 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            for (format, packed) in all_of(&bytes) {
                prop_assert_eq!(Format::of(&packed), format);
                prop_assert_eq!(&*decompress(&packed, 3000).unwrap(), &*bytes);
            }
        }

        #[test]
        fn any_bytes_are_unpacked_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            magic in prop::sample::select(vec![
                &b"\x1f\x8b\x08\x00"[..], b"\xfd7zXZ\x00", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd",
                b"\x50\x2a\x4d\x18", b"\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff",
            ]),
        ) {
            let _ = decompress(&[magic, &bytes].concat(), 1 << 16);
        }

        #[test]
        fn any_damage_is_unpacked_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            for (_, mut packed) in all_of(&bytes) {
                let at = at.index(packed.len());
                packed[at] = byte;
                let _ = decompress(&packed, 1 << 16);
            }
        }
    }
}
