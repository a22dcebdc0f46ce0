//! Boot images of NXP's i.MX processors: what their boot ROM starts.
//!
//! An image begins with its image vector table: 32 bytes that say where they lie, where the boot data is and
//! where the program begins (i.MX 8M Plus Applications Processor Reference Manual, 6.1.5; `struct
//! imx_header_v2` in U-Boot's `include/imximage.h`). A ghost can't run the program, so one that it is to run
//! has the first line that its U-Boot prints behind the tables: [`MAGIC`], then text, then a zero byte.

use crate::{array_at, le32};

/// What the text begins with.
pub const MAGIC: &[u8; 8] = b"GHOSTIMX";

/// Bytes of the image vector table.
const TABLE: u32 = 32;

/// Bytes of the boot data behind it.
const BOOT_DATA: u32 = 12;

/// Why a boot ROM does not start an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No image vector table.
    #[error("no image vector table")]
    NoTable,
    /// What the table points to is not in the image.
    #[error("the image vector table's {0} points outside of the image")]
    Outside(&'static str),
    /// It is shorter than its boot data says.
    #[error("{found} bytes of an image of {said}")]
    Truncated { said: u32, found: usize },
}

/// Checks an image as a boot ROM does, and returns how many bytes of `bytes` it has.
///
/// # Errors
/// See [`Error`].
pub fn check(bytes: &[u8]) -> Result<usize, Error> {
    // Tag, length in big-endian, and a version from 4.0 to 4.3.
    let table = array_at::<4>(bytes, 0).is_some_and(|[tag, high, low, version]| {
        tag == 0xd1 && u32::from(u16::from_be_bytes([high, low])) == TABLE && version >> 4 == 4
    });
    if !table || bytes.len() < TABLE as usize {
        return Err(Error::NoTable);
    }
    let word = |at: usize| le32(bytes, at).ok_or(Error::NoTable);
    let (entry, boot_data, own) = (word(4)?, word(16)?, word(20)?);
    let boot_data = boot_data.checked_sub(own).ok_or(Error::Outside("boot data"))? as usize;
    let (Some(start), Some(length)) = (le32(bytes, boot_data), le32(bytes, boot_data.saturating_add(4)))
    else {
        return Err(Error::Outside("boot data"));
    };
    // The image begins where the boot data says; the table may lie behind that.
    let before = own.checked_sub(start).ok_or(Error::Outside("own address"))?;
    let size = length.checked_sub(before).ok_or(Error::Outside("own address"))?;
    if !entry.checked_sub(own).is_some_and(|entry| (TABLE..size).contains(&entry)) {
        return Err(Error::Outside("entry"));
    }
    match usize::try_from(size) {
        Ok(size) if size <= bytes.len() => Ok(size),
        _ => Err(Error::Truncated { said: size, found: bytes.len() }),
    }
}

/// The line that an image's U-Boot prints first, where it is one that ghosts can run.
#[must_use]
pub fn text(image: &[u8]) -> Option<String> {
    let at = crate::find(image, MAGIC, 0)?;
    let text = image.get(at + MAGIC.len()..)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}

/// Makes an image of `size` bytes at least that is loaded to `load` and prints `text` first.
#[must_use]
pub fn write(load: u32, text: &str, size: usize) -> Vec<u8> {
    let entry = load.wrapping_add(TABLE + BOOT_DATA);
    let mut image = vec![0xd1, 0, TABLE as u8, 0x41];
    // Entry, reserved, no device configuration, boot data, the table itself, no signature, reserved.
    for word in [entry, 0, 0, load.wrapping_add(TABLE), load, 0, 0] {
        image.extend(word.to_le_bytes());
    }
    let mut body = MAGIC.to_vec();
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.push(0);
    let length = (image.len() + BOOT_DATA as usize + body.len()).max(size).next_multiple_of(4);
    for word in [load, u32::try_from(length).unwrap_or(u32::MAX), 0] {
        image.extend(word.to_le_bytes());
    }
    image.extend(body);
    image.resize(length, 0);
    image
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_image_and_what_is_not_whole_is_refused() {
        let image = write(0x0092_0000, "U-Boot 2024.04", 1000);
        assert_eq!(check(&image), Ok(1000));
        assert_eq!(check(&image[..999]), Err(Error::Truncated { said: 1000, found: 999 }));
        assert_eq!(check(&image[..39]), Err(Error::Outside("boot data")));
        assert_eq!(check(&image[..31]), Err(Error::NoTable));
        assert_eq!(check(b"MZ\0\x14 and what else an Image has"), Err(Error::NoTable));
        let mut elsewhere = image.clone();
        elsewhere[7] = 0x80;
        assert_eq!(check(&elsewhere), Err(Error::Outside("entry")));
        // On a card there is more behind it.
        assert_eq!(check(&[image, vec![0xff; 24]].concat()), Ok(1000));
    }

    proptest! {
        #[test]
        fn what_it_prints_comes_back(text in "[^\0]{0,200}", size in 0usize..1000) {
            let image = write(0x0092_0000, &text, size);
            prop_assert_eq!(super::text(&image), Some(text));
            prop_assert_eq!(check(&image), Ok(image.len()));
        }

        #[test]
        fn any_bytes_are_an_image_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = text(&bytes);
            let _ = check(&bytes);
            let _ = check(&[&[0xd1, 0, 32, 0x41][..], &bytes].concat());
        }
    }
}
