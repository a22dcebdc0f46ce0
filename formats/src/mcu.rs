//! Programs of microcontrollers: what a debug probe writes into their flash.
//!
//! A program for a Cortex-M begins with its vector table: where the stack begins, and where the program
//! does (Arm v7-M Architecture Reference Manual, B1.5.3). A ghost can't run the rest, so one that it is
//! to run has the lines that it prints behind the table: [`MAGIC`], then text, then a zero byte.

use std::ops::Range;

use object::elf;
use object::write::elf::{FileHeader, ProgramHeader, SectionHeader, Writer};

/// What the text begins with.
pub const MAGIC: &[u8; 8] = b"GHOSTMCU";

/// Why bytes are no program for a Cortex-M.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No whole vector table.
    #[error("{0} bytes are no vector table")]
    Short(usize),
    /// The stack does not begin in RAM.
    #[error("the stack begins at {0:#010x}, which is not in RAM")]
    Stack(u32),
    /// The program does not begin in itself, or is not in Thumb state.
    #[error("the program begins at {0:#010x}, which is no Thumb code of its own")]
    Reset(u32),
}

/// Where the stack begins, and where the program does, as its vector table has it.
///
/// # Errors
/// [`Error::Short`].
pub fn vectors(program: &[u8]) -> Result<(u32, u32), Error> {
    let word = |at: usize| {
        let field = program.get(at..at + 4).and_then(|field| field.try_into().ok());
        field.map(u32::from_le_bytes).ok_or(Error::Short(program.len()))
    };
    Ok((word(0)?, word(4)?))
}

/// Checks the vector table of a program that lies at the begin of `flash`.
///
/// # Errors
/// See [`Error`].
pub fn check(program: &[u8], flash: Range<u32>, ram: Range<u32>) -> Result<(), Error> {
    let (stack, reset) = vectors(program)?;
    // A stack grows downwards: its first address may be one past RAM.
    if !(ram.start..=ram.end).contains(&stack) || stack == ram.start || !stack.is_multiple_of(4) {
        return Err(Error::Stack(stack));
    }
    let end = u32::try_from(program.len()).unwrap_or(u32::MAX).saturating_add(flash.start).min(flash.end);
    if reset % 2 == 0 || !(flash.start..end).contains(&reset) {
        return Err(Error::Reset(reset));
    }
    Ok(())
}

/// What a program prints, where it is one that ghosts can run.
#[must_use]
pub fn text(program: &[u8]) -> Option<String> {
    let at = program.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let text = program.get(at + MAGIC.len()..)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}

/// Makes a program of `size` bytes at least that prints `text`, for a flash that begins at `flash` and
/// a RAM that ends at `ram_end`.
#[must_use]
pub fn write(flash: u32, ram_end: u32, text: &str, size: usize) -> Vec<u8> {
    const TABLE: u32 = 16 * 4;
    let mut program = Vec::new();
    program.extend(ram_end.to_le_bytes());
    // The lowest bit says Thumb.
    program.extend((flash.wrapping_add(TABLE) | 1).to_le_bytes());
    program.resize(TABLE as usize, 0);
    // `b .`, an endless loop.
    program.extend([0xfe, 0xe7, 0, 0]);
    program.extend(MAGIC);
    program.extend(text.bytes().filter(|byte| *byte != 0));
    program.push(0);
    if program.len() < size {
        program.resize(size, 0xff);
    }
    program.resize(program.len().next_multiple_of(4), 0xff);
    program
}

/// The ELF file that a linker makes of a `program` for a flash that begins at `flash`: what GDB's `load` reads. Its entry is what
/// the vector table says, its section `.text` the whole program.
///
/// # Errors
/// When the program is too short for a vector table, or too large for the file.
pub fn elf(program: &[u8], flash: u32) -> Result<Vec<u8>, String> {
    let (_stack, entry) = vectors(program).map_err(|error| error.to_string())?;
    let mut file = Vec::new();
    let mut writer = Writer::new(object::Endianness::Little, false, &mut file);
    let (address, size) = (u64::from(flash), program.len() as u64);
    writer.reserve_null_section_index();
    let name = writer.add_section_name(b".text");
    writer.reserve_section_index();
    writer.reserve_shstrtab_section_index();
    writer.reserve_file_header();
    writer.reserve_program_headers(1);
    let offset = writer.reserve(program.len(), 4);
    writer.reserve_shstrtab();
    writer.reserve_section_headers();
    let header = FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_EXEC,
        e_machine: elf::EM_ARM,
        e_entry: u64::from(entry),
        e_flags: elf::EF_ARM_EABI_VER5 | elf::EF_ARM_ABI_FLOAT_SOFT,
    };
    writer.write_file_header(&header).map_err(|error| error.to_string())?;
    writer.write_align_program_headers();
    writer.write_program_header(&ProgramHeader {
        p_type: elf::PT_LOAD,
        p_flags: elf::PF_R | elf::PF_X,
        p_offset: offset as u64,
        p_vaddr: address,
        p_paddr: address,
        p_filesz: size,
        p_memsz: size,
        p_align: 4,
    });
    writer.write_align(4);
    writer.write(program);
    writer.write_shstrtab();
    writer.write_null_section_header();
    writer.write_section_header(&SectionHeader {
        name: Some(name),
        sh_type: elf::SHT_PROGBITS,
        sh_flags: u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR),
        sh_addr: address,
        sh_offset: offset as u64,
        sh_size: size,
        sh_link: 0,
        sh_info: 0,
        sh_addralign: 4,
        sh_entsize: 0,
    });
    writer.write_shstrtab_section_header();
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLASH: Range<u32> = 0x0800_0000..0x0810_0000;
    const RAM: Range<u32> = 0x2000_0000..0x2004_0000;

    #[test]
    fn a_program_of_another_chip_is_told_by_its_vectors() {
        let program = write(FLASH.start, RAM.end, "hello\n", 100);
        assert_eq!(check(&program, FLASH, RAM), Ok(()));
        assert_eq!(check(&program, 0..0x10_0000, RAM), Err(Error::Reset(0x0800_0041)));
        assert_eq!(check(&program, FLASH, 0x2000_0000..0x2000_1000), Err(Error::Stack(0x2004_0000)));
        assert_eq!(check(&program[..6], FLASH, RAM), Err(Error::Short(6)));
        assert_eq!(check(&[0xff; 64], FLASH, RAM), Err(Error::Stack(0xffff_ffff)));
    }

    #[test]
    fn an_elf_file_has_the_program_as_it_goes_into_the_flash() {
        let program = write(FLASH.start, RAM.end, "hello\n", 100);
        let file = elf(&program, FLASH.start).unwrap();
        assert_eq!(file[..8], [0x7f, b'E', b'L', b'F', 1, 1, 1, 0], "32 bits, little-endian");
        assert_eq!(file[16..20], [2, 0, 40, 0], "to be run, by an Arm");
        assert_eq!(file[24..28], 0x0800_0041u32.to_le_bytes(), "its entry");
        assert!(file.windows(program.len()).any(|window| window == program));
        assert_eq!(elf(&program[..6], FLASH.start), Err("6 bytes are no vector table".into()));
    }

    proptest! {
        #[test]
        fn what_it_prints_comes_back(text in "[^\0]{0,200}", size in 0usize..1000) {
            let program = write(FLASH.start, RAM.end, &text, size);
            prop_assert_eq!(super::text(&program), Some(text));
            prop_assert_eq!(check(&program, FLASH, RAM), Ok(()));
            prop_assert_eq!(program.len() % 4, 0);
        }

        #[test]
        fn any_bytes_have_a_text_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = text(&bytes);
            let _ = check(&bytes, FLASH, RAM);
        }
    }
}
