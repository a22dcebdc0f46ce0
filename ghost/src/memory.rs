//! RAM: what was loaded where.

use std::collections::BTreeMap;

/// A board's RAM, sparse: only what was loaded takes room.
#[derive(Debug)]
pub struct Memory {
    base: u64,
    end: u64,
    loaded: BTreeMap<u64, Vec<u8>>,
}

/// An address range that is not RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address:#x}..{end:#x} is not RAM", end = address.saturating_add(*size))]
pub struct NotRam {
    /// First address.
    pub address: u64,
    pub size: u64,
}

impl Memory {
    /// RAM from `base`, `mib` MiB of it.
    #[must_use]
    pub fn new(base: u64, mib: u64) -> Self {
        Self { base, end: base.saturating_add(mib.saturating_mul(1 << 20)), loaded: BTreeMap::new() }
    }

    /// Writes `bytes` at `address`; what lay there before is cut or gone.
    ///
    /// # Errors
    /// When the range is not RAM.
    pub fn write(&mut self, address: u64, bytes: Vec<u8>) -> Result<(), NotRam> {
        let size = bytes.len() as u64;
        let not_ram = NotRam { address, size };
        let end = address.checked_add(size).ok_or(not_ram)?;
        if address < self.base || end > self.end {
            return Err(not_ram);
        }
        let touched: Vec<u64> = self
            .loaded
            .range(..end)
            .filter(|(start, old)| **start + old.len() as u64 > address)
            .map(|(start, _)| *start)
            .collect();
        for start in touched {
            let Some(mut old) = self.loaded.remove(&start) else { continue };
            let old_end = start + old.len() as u64;
            if old_end > end {
                // The tail survives: `end` lies inside `old`, so the index fits.
                let tail = old.split_off((end - start) as usize);
                self.loaded.insert(end, tail);
            }
            if start < address {
                old.truncate((address - start) as usize);
                self.loaded.insert(start, old);
            }
        }
        if size > 0 {
            self.loaded.insert(address, bytes);
        }
        Ok(())
    }

    /// What was loaded from `address` on, as far as it is contiguous; empty if nothing was.
    #[must_use]
    pub fn from(&self, address: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut next = address;
        if let Some((start, bytes)) = self.loaded.range(..=address).next_back() {
            let skip = (address - start) as usize;
            if skip < bytes.len() {
                out.extend_from_slice(&bytes[skip..]);
                next = start + bytes.len() as u64;
            }
        }
        while let Some(bytes) = self.loaded.get(&next).filter(|_| next != address) {
            out.extend_from_slice(bytes);
            next += bytes.len() as u64;
        }
        out
    }

    /// `size` bytes from `address` on; `None` where nothing, or less, was loaded.
    #[must_use]
    pub fn read(&self, address: u64, size: u64) -> Option<Vec<u8>> {
        let mut bytes = self.from(address);
        let size = usize::try_from(size).ok()?;
        (bytes.len() >= size).then(|| {
            bytes.truncate(size);
            bytes
        })
    }

    /// One past the last address of RAM.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_over_another_keeps_what_was_not_overwritten() {
        let mut memory = Memory::new(0x1000, 1);
        memory.write(0x1000, b"aaaaaaaa".to_vec()).unwrap();
        memory.write(0x1002, b"bb".to_vec()).unwrap();
        assert_eq!(memory.from(0x1000), b"aabbaaaa");
        assert_eq!(memory.from(0x1003), b"baaaa");
        assert_eq!(memory.read(0x1000, 9), None);
    }

    #[test]
    fn a_load_outside_of_ram_is_refused() {
        let mut memory = Memory::new(0x1000, 1);
        assert!(memory.write(0xfff, vec![0]).is_err());
        assert!(memory.write(0x1000 + (1 << 20), vec![0]).is_err());
        assert!(memory.write(u64::MAX, vec![0, 0]).is_err());
        assert_eq!(memory.from(0x1000), b"");
    }
}
