//! Android's sparse images: what a partition holds without its empty blocks (`libsparse/sparse_format.h` of Android's
//! `system/core`). The crate reads the headers; putting a partition together is ours.

use android_sparse_image::{
    CHUNK_HEADER_BYTES_LEN, ChunkHeader, ChunkType, DEFAULT_BLOCKSIZE, FILE_HEADER_BYTES_LEN, FileHeader,
    HEADER_MAGIC, ParseError,
};

use crate::{array_at, le32};

/// Why there is no partition.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Header(#[from] ParseError),
    #[error("it ends early")]
    Truncated,
    #[error("chunk {0} has another size than its blocks")]
    ChunkSize(u32),
    #[error("its chunks are not as many blocks as it says")]
    Blocks,
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
}

/// Whether `bytes` begin as a sparse image does.
#[must_use]
pub fn is_sparse(bytes: &[u8]) -> bool {
    le32(bytes, 0) == Some(HEADER_MAGIC)
}

/// The partition that a sparse image is of. Blocks that it does not care for are zeros.
///
/// # Errors
/// When it is broken, or the partition larger than `limit` bytes.
pub fn expand(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let header = FileHeader::from_bytes(&array_at(bytes, 0).ok_or(Error::Truncated)?)?;
    let block = header.block_size as usize;
    let size = block.checked_mul(header.blocks as usize).filter(|size| *size <= limit);
    let size = size.ok_or(Error::TooLarge(limit))?;
    let mut expanded = Vec::new();
    let mut at = FILE_HEADER_BYTES_LEN;
    for number in 0..header.chunks {
        let chunk = ChunkHeader::from_bytes(&array_at(bytes, at).ok_or(Error::Truncated)?)?;
        at += CHUNK_HEADER_BYTES_LEN;
        let data_size = (chunk.total_size as usize).checked_sub(CHUNK_HEADER_BYTES_LEN);
        let data_size = data_size.ok_or(Error::ChunkSize(number))?;
        let data = at.checked_add(data_size).and_then(|end| bytes.get(at..end)).ok_or(Error::Truncated)?;
        at += data_size;
        let blocks = block.checked_mul(chunk.chunk_size as usize);
        let end = blocks.and_then(|blocks| blocks.checked_add(expanded.len()));
        let end = end.filter(|end| *end <= size).ok_or(Error::Blocks)?;
        match (chunk.chunk_type, data) {
            (ChunkType::Raw, data) if Some(data.len()) == blocks => expanded.extend_from_slice(data),
            (ChunkType::DontCare, []) => expanded.resize(end, 0),
            (ChunkType::Fill, data) if data.len() == 4 => {
                let fill = data.iter().copied().cycle();
                expanded.extend(fill.take(end - expanded.len()));
            }
            // Of what came before; it is not checked, as LK does not either.
            (ChunkType::Crc32, data) if data.len() == 4 && chunk.chunk_size == 0 => {}
            _ => return Err(Error::ChunkSize(number)),
        }
    }
    if expanded.len() == size { Ok(expanded) } else { Err(Error::Blocks) }
}

/// The sparse image of a partition, which is a whole number of blocks of [`DEFAULT_BLOCKSIZE`]; blocks of zeros are left out.
///
/// # Errors
/// When it is not, or is too large for one.
pub fn write(partition: &[u8]) -> Result<Vec<u8>, Error> {
    let block = DEFAULT_BLOCKSIZE;
    let (blocks, []) = partition.as_chunks::<{ DEFAULT_BLOCKSIZE as usize }>() else {
        return Err(Error::Blocks);
    };
    let is_empty = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let number = |many: usize| u32::try_from(many).map_err(|_| Error::Blocks);
    let (mut chunks, mut written) = (0, Vec::new());
    for run in blocks.chunk_by(|a, b| is_empty(a) == is_empty(b)) {
        let many = number(run.len())?;
        chunks += 1;
        if run.first().is_some_and(|block| is_empty(block)) {
            written.extend(ChunkHeader::new_dontcare(many).to_bytes());
        } else {
            written.extend(ChunkHeader::new_raw(many, block).to_bytes());
            written.extend(run.as_flattened());
        }
    }
    let header = FileHeader { block_size: block, blocks: number(blocks.len())?, chunks, checksum: 0 };
    Ok([&header.to_bytes()[..], &written].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sparse image of four blocks: text, zeros, and a pattern twice.
    fn image() -> Vec<u8> {
        let header = FileHeader { block_size: 8, blocks: 4, chunks: 3, checksum: 0 };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(ChunkHeader::new_raw(1, 8).to_bytes());
        bytes.extend(b"the text");
        bytes.extend(ChunkHeader::new_dontcare(1).to_bytes());
        bytes.extend(ChunkHeader::new_fill(2).to_bytes());
        bytes.extend(b"1234");
        bytes
    }

    #[test]
    fn what_is_left_out_is_there_again() {
        assert!(is_sparse(&image()) && !is_sparse(b"") && !is_sparse(b"rubbish"));
        let whole = [&b"the text"[..], &[0; 8], b"1234123412341234"].concat();
        assert_eq!(expand(&image(), 32).unwrap(), whole);
    }

    #[test]
    fn what_is_broken_or_too_large_is_told() {
        assert!(matches!(expand(&image(), 31), Err(Error::TooLarge(31))));
        assert!(matches!(expand(b"rubbish, longer than a header", 1 << 20), Err(Error::Header(_))));
        let whole = image();
        for end in 0..whole.len() {
            assert!(matches!(expand(&whole[..end], 32), Err(Error::Truncated)), "{end}");
        }
        let mut more = whole.clone();
        // The blocks of the last chunk.
        more[28 + 12 + 8 + 12 + 4] = 3;
        assert!(matches!(expand(&more, 32), Err(Error::Blocks)));
        more[28 + 12 + 8 + 12 + 4] = 1;
        assert!(matches!(expand(&more, 32), Err(Error::Blocks)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(blocks in prop::collection::vec(0_u8..3, 0..12)) {
            let partition: Vec<u8> = blocks.iter().flat_map(|byte| [*byte; DEFAULT_BLOCKSIZE as usize]).collect();
            let image = write(&partition).unwrap();
            prop_assert_eq!(expand(&image, partition.len()).unwrap(), partition);
        }

        #[test]
        fn a_broken_image_is_a_partition_or_an_error(
            changes in prop::collection::vec((0_usize..76, any::<u8>()), 1..6),
        ) {
            let mut bytes = image();
            for (at, byte) in changes {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            let _ = expand(&bytes, 1 << 16);
        }
    }
}
