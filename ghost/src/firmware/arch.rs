//! Architectures of boards, which decide what a firmware takes for a kernel.

use meta_lava_formats::{kernel, uimage};
use serde::Deserialize;

/// An architecture, `arch` in a board's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 32-bit Arm.
    Arm,
    /// 64-bit Arm.
    #[default]
    Arm64,
    /// RISC-V.
    Riscv,
    /// x86.
    X86,
}

impl Arch {
    /// What its kernels are, without a header of a boot loader.
    #[must_use]
    pub fn kernel(self) -> kernel::Format {
        match self {
            Self::Arm => kernel::Format::ArmZImage,
            Self::Arm64 => kernel::Format::Arm64Image,
            Self::Riscv => kernel::Format::RiscvImage,
            Self::X86 => kernel::Format::X86BzImage,
        }
    }

    /// What the header of a legacy image calls it.
    #[must_use]
    pub fn uimage(self) -> uimage::Arch {
        match self {
            Self::Arm => uimage::Arch::ARM,
            Self::Arm64 => uimage::Arch::ARM64,
            Self::Riscv => uimage::Arch::RISCV,
            Self::X86 => uimage::Arch::X86_64,
        }
    }

    /// What `uname -m` calls it.
    #[must_use]
    pub fn machine(self) -> &'static str {
        match self {
            Self::Arm => "armv7l",
            Self::Arm64 => "aarch64",
            Self::Riscv => "riscv64",
            Self::X86 => "x86_64",
        }
    }
}
