//! The files that LAVA downloads, made from a list of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use meta_lava_formats::fdt::{Fdt, Node};
use meta_lava_formats::kernel::{self, ghost_banner};
use meta_lava_formats::tree::{Tree, normal_path};
use meta_lava_formats::{android, compress, cpio, fat, fit, imx, mbr, mcu, sparse, tar, uimage};
use serde::Deserialize;

use crate::image::{self, Image};
use crate::installer;
use crate::manifest::{self, Content, Entry, Manifest};
use crate::userland::{self, Busybox, Login, Userland, modules, nbd, rootfs, with_kexec};

/// Which artifacts there are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Who can log in to root file systems that ask.
    pub login: Login,
    /// The artifacts by their path below the store.
    pub artifacts: BTreeMap<String, Artifact>,
}

/// What a device tree tells a kernel that comes without a boot loader's word.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// The command line.
    bootargs: String,
    /// Where the ramdisk begins and, at the latest, ends.
    initrd: (u32, u32),
}

/// What an overlay of a device tree does: it sets properties of a node, or adds one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The node that it is for: a label, or a path.
    target: String,
    /// The node that it adds there; where there is none, the properties are the target's.
    #[serde(default)]
    node: Option<String>,
    /// The label of that node.
    #[serde(default)]
    label: Option<String>,
    /// Properties that are texts.
    #[serde(default)]
    texts: BTreeMap<String, String>,
    /// Properties that are the phandle of a node, by its label, which may be the overlay's own.
    #[serde(default)]
    refers: BTreeMap<String, String>,
}

/// What a FIT image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Its architecture as mkimage names it.
    arch: String,
    /// Path of the kernel.
    kernel: String,
    /// Path of the device tree.
    #[serde(default)]
    dtb: Option<String>,
    /// Path of the ramdisk.
    #[serde(default)]
    ramdisk: Option<String>,
    /// Where to load and start the kernel.
    load: u32,
    /// Name of its only configuration; mkimage's until 2018 was `conf@1`.
    #[serde(default = "default_configuration")]
    configuration: String,
}

/// What an Android boot image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AndroidBoot {
    /// Path of the kernel.
    kernel: String,
    /// Path of the ramdisk.
    #[serde(default)]
    ramdisk: Option<String>,
    /// Path of the device tree.
    #[serde(default)]
    dtb: Option<String>,
    /// The kernel command line.
    #[serde(default)]
    cmdline: String,
}

fn default_configuration() -> String {
    "conf-1".into()
}

/// How an artifact is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Artifact {
    Kernel {
        /// Its format.
        format: KernelFormat,
        /// Its architecture as `uname -m` names it, for the banner.
        machine: String,
        /// Bytes before it is compressed.
        #[serde(default = "default_kernel_size")]
        size: usize,
        /// How it is compressed.
        #[serde(default)]
        compress: Compress,
        /// The architecture of a legacy U-Boot header to put before it, as mkimage names it.
        #[serde(default)]
        uimage: Option<String>,
        /// The address in that header where to load and start it.
        #[serde(default)]
        load: u32,
    },
    Dtb {
        model: String,
        /// What it is compatible with, the board first.
        #[serde(default)]
        compatible: Vec<String>,
        /// What `/chosen` tells the kernel, where no boot loader does.
        #[serde(default)]
        chosen: Option<Chosen>,
        /// Nodes by their labels, which overlays name them by: then it is made as by `dtc -@`.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
    /// An overlay of a device tree, as `dtc -@` makes it.
    Dtbo(Overlay),
    /// A FIT image of other artifacts.
    Fit(Fit),
    /// An Android boot image of other artifacts.
    AndroidBoot(AndroidBoot),
    /// A root file system, see [`crate::userland::rootfs`].
    Rootfs {
        /// Its archive's format.
        pack: Pack,
        /// How it is compressed.
        #[serde(default)]
        compress: Compress,
        /// Whether it asks for a login.
        #[serde(default)]
        login: bool,
        /// Whether it has kexec(8), and a shell whose `wget` shows no progress: how often that is told depends on the machine.
        #[serde(default)]
        kexec: bool,
        /// Whether it has the folders and names of an Android.
        #[serde(default)]
        android: bool,
        /// The architecture of a legacy U-Boot header to put before it, as mkimage names it.
        #[serde(default)]
        uimage: Option<String>,
    },
    /// A root file system in a file system's image (ext2), see [`crate::userland::rootfs`].
    Ext {
        /// The script that makes it of an archive.
        script: String,
        /// Its size.
        kib: usize,
        /// Whether it is an Android sparse image of that.
        #[serde(default)]
        sparse: bool,
    },
    /// A disc that Debian is installed from, see [`crate::installer`].
    InstallerDisc {
        /// The script that makes it of an archive.
        script: String,
        /// Path of the kernel, the installer's and that which is installed.
        kernel: String,
        /// The shell that is installed.
        bash: String,
    },
    /// A file system's image (FAT) with texts and other artifacts, each by its path in it, as a UEFI boots from one.
    Fat {
        /// Its name.
        label: String,
        /// Its size.
        kib: usize,
        /// Texts.
        #[serde(default)]
        files: BTreeMap<String, String>,
        /// Paths of other artifacts.
        #[serde(default)]
        parts: BTreeMap<String, String>,
    },
    /// A ramdisk that goes on with the root on a network block device, see [`crate::userland::nbd`].
    Nbd {
        /// How it is compressed.
        #[serde(default)]
        compress: Compress,
        /// The architecture of a legacy U-Boot header to put before it, as mkimage names it.
        #[serde(default)]
        uimage: Option<String>,
    },
    /// A ramdisk in parts, as initramfs-tools makes it: an archive of texts that is not compressed, and behind it another artifact.
    RamdiskInParts {
        /// Texts of the first part.
        files: BTreeMap<String, String>,
        /// Path of the second one.
        then: String,
    },
    /// Modules, as a tar archive, see [`crate::userland::modules`].
    Modules {
        /// How it is compressed.
        #[serde(default)]
        compress: Compress,
    },
    /// A program for a microcontroller, see [`mcu`], that prints [`SUITE`].
    Mcu {
        /// Where the flash that it is for begins.
        flash: u32,
        /// Where the RAM that it is for ends.
        ram_end: u32,
        /// Bytes that it has at least.
        #[serde(default = "default_program_size")]
        size: usize,
        /// Whether it is in an ELF file, as a linker makes it.
        #[serde(default)]
        elf: bool,
    },
    /// A boot image of an i.MX processor, see [`imx`].
    ImxBoot {
        /// Where the boot ROM loads it to.
        load: u32,
        /// The first line that its U-Boot prints.
        banner: String,
        /// Bytes that it has at least.
        #[serde(default = "default_program_size")]
        size: usize,
    },
    /// A disk with a partition for each of some other artifacts, one behind the other; see [`mbr`].
    Disk {
        /// Its size in KiB.
        kib: usize,
        /// Paths of what is in the partitions.
        partitions: Vec<String>,
    },
    /// An image of a container, see [`crate::image`].
    Image(Image),
    /// A tar archive of texts and of other artifacts, each by its path in it.
    Archive {
        /// How it is compressed.
        #[serde(default)]
        compress: Compress,
        /// Texts.
        #[serde(default)]
        files: BTreeMap<String, String>,
        /// Paths of other artifacts.
        #[serde(default)]
        parts: BTreeMap<String, String>,
    },
    /// A text.
    Text {
        /// What it says.
        text: String,
    },
    /// Bytes without a meaning, other ones for each path.
    Blob {
        /// How many.
        size: usize,
        /// What they begin with, where somebody looks at that.
        #[serde(default)]
        begins: String,
    },
}

impl Artifact {
    /// The other artifacts that it is made of.
    fn parts(&self) -> Vec<&str> {
        let parts = match self {
            Self::Fit(fit) => [Some(&fit.kernel), fit.dtb.as_ref(), fit.ramdisk.as_ref()],
            Self::AndroidBoot(boot) => [Some(&boot.kernel), boot.dtb.as_ref(), boot.ramdisk.as_ref()],
            Self::InstallerDisc { kernel, .. } => return vec![kernel],
            Self::RamdiskInParts { then, .. } => return vec![then],
            Self::Disk { partitions, .. } => return partitions.iter().map(String::as_str).collect(),
            Self::Archive { parts, .. } | Self::Fat { parts, .. } => {
                return parts.values().map(String::as_str).collect();
            }
            _ => return Vec::new(),
        };
        parts.into_iter().flatten().map(String::as_str).collect()
    }
}

/// What a test suite of Zephyr's prints.
const SUITE: &str = "*** Booting Zephyr OS build v3.5.0 ***
Running TESTSUITE kernel_basics
===================================================================
START - test_sleep
 PASS - test_sleep in 0.101 seconds
START - test_uart
 FAIL - test_uart in 0.002 seconds
START - test_flash
 SKIP - test_flash in 0.001 seconds
TESTSUITE kernel_basics failed.
PROJECT EXECUTION FAILED
";

const fn default_program_size() -> usize {
    16 << 10
}

const fn default_kernel_size() -> usize {
    64 << 10
}

/// A kernel's format in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelFormat {
    /// See [`kernel::Format::Arm64Image`].
    Arm64Image,
    /// See [`kernel::Format::ArmZImage`].
    ArmZimage,
    /// See [`kernel::Format::RiscvImage`].
    RiscvImage,
    /// See [`kernel::Format::X86BzImage`].
    #[serde(rename = "x86-bzimage")]
    X86BzImage,
}

impl From<KernelFormat> for kernel::Format {
    fn from(format: KernelFormat) -> Self {
        match format {
            KernelFormat::Arm64Image => Self::Arm64Image,
            KernelFormat::ArmZimage => Self::ArmZImage,
            KernelFormat::RiscvImage => Self::RiscvImage,
            KernelFormat::X86BzImage => Self::X86BzImage,
        }
    }
}

/// An archive's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pack {
    /// cpio, as an initramfs is.
    Cpio,
    /// tar.
    Tar,
}

/// How an artifact is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// LZMA alone.
    Lzma,
    /// Zstandard.
    Zstd,
    /// bzip2.
    Bzip2,
}

impl Compress {
    fn apply(self, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes),
            Self::Gzip => compress::gzip(&bytes),
            Self::Xz => compress::xz(&bytes),
            Self::Lzma => compress::lzma(&bytes),
            Self::Zstd => Ok(compress::zstd(&bytes)),
            Self::Bzip2 => compress::bzip2(&bytes),
        }
    }

    /// What U-Boot's header says of it: `none` of a ramdisk, which U-Boot leaves to the kernel.
    fn uimage(self, image_type: uimage::ImageType) -> anyhow::Result<uimage::Comp> {
        if image_type == uimage::ImageType::RAMDISK {
            return Ok(uimage::Comp::NONE);
        }
        match self {
            Self::None => Ok(uimage::Comp::NONE),
            Self::Gzip => Ok(uimage::Comp::GZIP),
            Self::Lzma => Ok(uimage::Comp::LZMA),
            Self::Zstd => Ok(uimage::Comp::ZSTD),
            Self::Bzip2 => Ok(uimage::Comp::BZIP2),
            Self::Xz => bail!("u-boot has no xz"),
        }
    }
}

impl List {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// When it does not parse, or a path in it leaves the store.
    pub fn parse(yaml: &str) -> anyhow::Result<Self> {
        let list: Self = serde_yaml::from_str(yaml)?;
        match list.problems().into_iter().next() {
            Some((path, why)) => bail!("{path}: {why}"),
            None => Ok(list),
        }
    }

    /// What is wrong with it though it parses: the artifact, and why.
    #[must_use]
    pub fn problems(&self) -> Vec<(&str, String)> {
        let mut problems = Vec::new();
        for (path, artifact) in &self.artifacts {
            let is_normal = normal_path(path).is_ok_and(|normal| normal == *path);
            if !is_normal || path.is_empty() || path == manifest::FILE_NAME {
                problems.push((path.as_str(), "is no path of a file below the store".to_owned()));
            }
            for part in artifact.parts() {
                let why = match self.artifacts.get(part) {
                    None => format!("is made of {part}, which is not in the list"),
                    Some(other) if !other.parts().is_empty() => {
                        format!("is made of {part}, which is made of others itself")
                    }
                    Some(_) => continue,
                };
                problems.push((path.as_str(), why));
            }
        }
        problems
    }
}

/// A built artifact.
#[derive(Default)]
struct Built {
    bytes: Vec<u8>,
    unpacked: Option<Content>,
    tree: Option<&'static str>,
}

/// Builds all artifacts of `list` below `out`, and the manifest beside them. The same list, the
/// same busybox and the same userland make the same bytes.
///
/// # Errors
///
/// When an artifact can't be made (named in the error) or written.
pub fn build(list: &List, busybox: &Busybox, userland: &Userland, out: &Path) -> anyhow::Result<Manifest> {
    let mut builder = Builder { list, busybox, userland, packed: BTreeMap::new(), trees: BTreeMap::new() };
    let mut artifacts = BTreeMap::new();
    for (path, artifact) in &list.artifacts {
        let built = builder.build(path, artifact).with_context(|| format!("can't make {path}"))?;
        write(&out.join(path), &built.bytes)?;
        let Content { size, sha256 } = Content::of(&built.bytes);
        let entry = Entry {
            size,
            sha256,
            md5: meta_lava_formats::md5(&built.bytes),
            sha512: meta_lava_formats::sha512(&built.bytes),
            unpacked: built.unpacked,
            tree: built.tree.map(str::to_owned),
        };
        artifacts.insert(path.clone(), entry);
    }
    let trees = builder.trees.iter().map(|(name, tree)| ((*name).to_owned(), tree.listing())).collect();
    let manifest = Manifest { version: manifest::VERSION, artifacts, trees };
    let mut text = serde_json::to_vec_pretty(&manifest)?;
    text.push(b'\n');
    write(&out.join(manifest::FILE_NAME), &text)?;
    Ok(manifest)
}

/// Where a superblock of ext2 says when it was mounted, written and checked last, and which file system it is (`ext2_super_block` in
/// ext2_fs.h).
const OTHER_EACH_TIME: [std::ops::Range<usize>; 3] =
    [1024 + 44..1024 + 52, 1024 + 64..1024 + 68, 1024 + 104..1024 + 120];

/// An image of a file system with what is in a tar archive, by `script` (compose/world/ext2.sh, iso.sh) and what that is told besides.
fn by_script(script: &str, archive: &[u8], told: &str) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let (from, to) = (folder.path().join("root.tar"), folder.path().join("root.image"));
    std::fs::write(&from, archive)?;
    let mut command = Command::new("sh");
    command.arg(script).arg(&from).arg(told).arg(&to);
    let output = command.output().with_context(|| format!("can't run {script}"))?;
    if !output.status.success() {
        bail!("{script} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    std::fs::read(&to).with_context(|| format!("{script} made no image"))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, bytes)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

struct Builder<'a> {
    list: &'a List,
    busybox: &'a Busybox,
    userland: &'a Userland,
    /// Archives that were compressed already, by tree, format and compression: the same one with
    /// another header is not packed again.
    packed: BTreeMap<(&'static str, bool, u8), (Vec<u8>, Content)>,
    trees: BTreeMap<&'static str, Tree>,
}

impl Builder<'_> {
    fn build(&mut self, path: &str, artifact: &Artifact) -> anyhow::Result<Built> {
        match artifact {
            Artifact::Kernel { format, machine, size, compress, uimage, load } => {
                let kernel = kernel::write((*format).into(), &ghost_banner(machine), *size);
                let content = Content::of(&kernel);
                let bytes = compress.apply(kernel)?;
                let built = Built { bytes, ..Built::default() }.unpacked(*compress, content);
                built.wrap(uimage.as_deref(), uimage::ImageType::KERNEL, *compress, *load)
            }
            Artifact::Dtb { model, compatible, chosen, labels } => {
                let mut tree = device_tree(model, compatible, chosen.as_ref());
                if !labels.is_empty() {
                    label(&mut tree, labels);
                }
                Ok(Built { bytes: tree.to_bytes()?, ..Built::default() })
            }
            Artifact::Dtbo(made_of) => Ok(Built { bytes: made_of.tree()?.to_bytes()?, ..Built::default() }),
            Artifact::RamdiskInParts { files, then } => {
                let mut first = Tree::default();
                for (path, text) in files {
                    first.parents(path);
                    first.file(path, 0o644, text.as_bytes());
                }
                let mut bytes = cpio::write(&first)?;
                bytes.extend(self.part(then)?.bytes);
                Ok(Built { bytes, ..Built::default() })
            }
            Artifact::Fit(fit) => self.fit(fit),
            Artifact::AndroidBoot(boot) => self.android_boot(boot),
            Artifact::Rootfs { pack, compress, login, kexec, android, uimage } => {
                let name = self.root(*login)?;
                let name = if *kexec { self.with_kexec(name)? } else { name };
                let name = if *android { self.as_android(name)? } else { name };
                let built = self.archive(name, *pack, *compress)?;
                built.wrap(uimage.as_deref(), uimage::ImageType::RAMDISK, *compress, 0)
            }
            Artifact::Ext { script, kib, sparse } => {
                let name = self.root(false)?;
                let tree = self.trees.get(name).context("no such tree")?;
                let mut plain = by_script(script, &tar::write(tree)?, &kib.to_string())?;
                for place in OTHER_EACH_TIME {
                    if let Some(place) = plain.get_mut(place) {
                        place.fill(0);
                    }
                }
                let (bytes, unpacked) = match sparse {
                    false => (plain, None),
                    true => (sparse::write(&plain)?, Some(Content::of(&plain))),
                };
                Ok(Built { bytes, unpacked, tree: Some(name) })
            }
            Artifact::InstallerDisc { script, kernel, bash } => {
                let kernel = self.part(kernel)?.bytes;
                let bash = std::fs::read(bash).with_context(|| format!("can't read {bash}"))?;
                let (login, root) = (self.root(true)?, self.root(false)?);
                let tree = |name| self.trees.get(name).context("no such tree");
                let installed = installer::installed(tree(login)?, self.userland, kernel.clone(), bash)?;
                let disc = installer::disc(tree(root)?, &installed, kernel)?;
                self.trees.insert("installed", installed);
                let bytes = by_script(script, &tar::write(&disc)?, "Debian 12.5.0 amd64 n")?;
                Ok(Built { bytes, tree: Some("installed"), ..Built::default() })
            }
            Artifact::Fat { label, kib, files, parts } => {
                let bytes = fat::write(&self.tree(files, parts)?, label, kib * 1024)?;
                Ok(Built { bytes, ..Built::default() })
            }
            Artifact::Nbd { compress, uimage } => {
                let name = self.root(false)?;
                let tree = nbd(self.trees.get(name).context("no such tree")?);
                self.trees.entry("nbd").or_insert(tree);
                let built = self.archive("nbd", Pack::Cpio, *compress)?;
                built.wrap(uimage.as_deref(), uimage::ImageType::RAMDISK, *compress, 0)
            }
            Artifact::Modules { compress } => {
                self.trees.entry("modules").or_insert_with(modules);
                self.archive("modules", Pack::Tar, *compress)
            }
            Artifact::Mcu { flash, ram_end, size, elf } => {
                let bytes = mcu::write(*flash, *ram_end, SUITE, *size);
                if !elf {
                    return Ok(Built { bytes, ..Built::default() });
                }
                let unpacked = Some(Content::of(&bytes));
                let bytes = mcu::elf(&bytes, *flash).map_err(anyhow::Error::msg)?;
                Ok(Built { bytes, unpacked, ..Built::default() })
            }
            Artifact::Text { text } => Ok(Built { bytes: text.clone().into_bytes(), ..Built::default() }),
            Artifact::ImxBoot { load, banner, size } => {
                let bytes = imx::write(*load, banner, *size);
                Ok(Built { bytes, ..Built::default() })
            }
            Artifact::Disk { kib, partitions } => self.disk(kib * 1024, partitions),
            Artifact::Archive { compress, files, parts } => {
                let archive = tar::write(&self.tree(files, parts)?)?;
                let content = Content::of(&archive);
                Ok(Built { bytes: compress.apply(archive)?, ..Built::default() }.unpacked(*compress, content))
            }
            Artifact::Image(made_of) => {
                let root = self.root(false)?;
                let root = self.trees.get(root).context("no such tree")?;
                Ok(Built { bytes: image::build(path, made_of, root)?, ..Built::default() })
            }
            Artifact::Blob { size, begins } => {
                let mut bytes = blob(path, *size);
                bytes.splice(..begins.len().min(*size), begins.bytes());
                Ok(Built { bytes, ..Built::default() })
            }
        }
    }

    /// Texts and other artifacts, each at its path.
    fn tree(
        &mut self,
        files: &BTreeMap<String, String>,
        parts: &BTreeMap<String, String>,
    ) -> anyhow::Result<Tree> {
        let mut tree = Tree::default();
        for (at, text) in files {
            tree.file(at, 0o644, text.as_bytes());
        }
        for (at, path) in parts {
            tree.file(at, 0o644, self.part(path)?.bytes);
        }
        tree.nodes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn disk(&mut self, size: usize, contents: &[String]) -> anyhow::Result<Built> {
        /// Where partitions begin, in bytes: at whole MiB, as all tools make them.
        const ALIGNED: usize = 1 << 20;
        let mut bytes = vec![0; ALIGNED];
        let mut partitions = Vec::new();
        for path in contents {
            let part = self.part(path)?;
            let part = part.bytes;
            let blocks = u32::try_from(part.len().div_ceil(mbr::BLOCK))?;
            let start = u32::try_from(bytes.len() / mbr::BLOCK)?;
            partitions.push(mbr::Partition { start, blocks, kind: 0x83 });
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
        }
        if bytes.len() > size || !mbr::write(&mut bytes, &partitions) {
            bail!("{} partitions with {} bytes do not fit", partitions.len(), bytes.len());
        }
        bytes.resize(size, 0);
        Ok(Built { bytes, ..Built::default() })
    }

    /// Makes a root file system, once, and says by which name it is kept.
    fn root(&mut self, login: bool) -> anyhow::Result<&'static str> {
        let name = if login { "login" } else { "rootfs" };
        if !self.trees.contains_key(name) {
            self.trees.insert(name, rootfs(self.busybox, self.userland, &self.list.login, login)?);
        }
        Ok(name)
    }

    /// Makes that root file system with what kexec needs, once, and says by which name it is kept.
    fn with_kexec(&mut self, root: &str) -> anyhow::Result<&'static str> {
        let name = if root == "login" { "login-kexec" } else { "kexec" };
        if !self.trees.contains_key(name) {
            let tree = with_kexec(self.trees.get(root).context("no such tree")?, self.userland)?;
            self.trees.insert(name, tree);
        }
        Ok(name)
    }

    /// Makes an Android of that root file system, once, and says by which name it is kept.
    fn as_android(&mut self, root: &str) -> anyhow::Result<&'static str> {
        if !self.trees.contains_key("android") {
            let tree = userland::as_android(self.trees.get(root).context("no such tree")?);
            self.trees.insert("android", tree);
        }
        Ok("android")
    }

    fn archive(&mut self, name: &'static str, pack: Pack, compress: Compress) -> anyhow::Result<Built> {
        let key = (name, pack == Pack::Tar, compress as u8);
        if !self.packed.contains_key(&key) {
            let tree = self.trees.get(name).context("no such tree")?;
            let archive = match pack {
                Pack::Cpio => cpio::write(tree)?,
                Pack::Tar => tar::write(tree)?,
            };
            let content = Content::of(&archive);
            self.packed.insert(key, (compress.apply(archive)?, content));
        }
        let (bytes, content) = self.packed.get(&key).context("no such archive")?.clone();
        Ok(Built { bytes, tree: Some(name), ..Built::default() }.unpacked(compress, content))
    }

    /// Another artifact, which is not made of others itself.
    fn part(&mut self, path: &str) -> anyhow::Result<Built> {
        let list = self.list;
        match list.artifacts.get(path) {
            None => bail!("no artifact {path}"),
            Some(artifact) if !artifact.parts().is_empty() => bail!("{path} is made of others itself"),
            Some(artifact) => self.build(path, artifact),
        }
    }

    fn android_boot(&mut self, parts: &AndroidBoot) -> anyhow::Result<Built> {
        let mut part = |path: Option<&String>| match path {
            Some(path) => self.part(path),
            None => Ok(Built::default()),
        };
        let (kernel, dtb) = (part(Some(&parts.kernel))?, part(parts.dtb.as_ref())?);
        let ramdisk = part(parts.ramdisk.as_ref())?;
        let image = android::Image {
            kernel: &kernel.bytes,
            ramdisk: &ramdisk.bytes,
            dtb: &dtb.bytes,
            cmdline: parts.cmdline.clone(),
        };
        Ok(Built { bytes: android::write(&image)?, tree: ramdisk.tree, ..Built::default() })
    }

    fn fit(&mut self, parts: &Fit) -> anyhow::Result<Built> {
        let mut images = Vec::new();
        // The ramdisk's: nothing else in it has one.
        let mut tree = None;
        let mut add = |path: Option<&str>, image_type: &str, name: &str| -> anyhow::Result<Option<String>> {
            let Some(path) = path else { return Ok(None) };
            let address = (image_type == "kernel").then_some(parts.load.into());
            let part = self.part(path)?;
            tree = tree.or(part.tree);
            let mut image = fit::Image {
                name: name.into(),
                description: path.into(),
                image_type: image_type.into(),
                arch: parts.arch.clone(),
                os: (image_type != "flat_dt").then(|| "linux".into()),
                compression: "none".into(),
                load: address,
                entry: address,
                data: part.bytes,
                hashes: Vec::new(),
            };
            image.add_hash("crc32")?;
            image.add_hash("sha256")?;
            images.push(image);
            Ok(Some(name.into()))
        };
        let configuration = fit::Configuration {
            name: parts.configuration.clone(),
            description: "ghost".into(),
            kernel: add(Some(&parts.kernel), "kernel", "kernel-1")?,
            fdt: add(parts.dtb.as_deref(), "flat_dt", "fdt-1")?.into_iter().collect(),
            ramdisk: add(parts.ramdisk.as_deref(), "ramdisk", "ramdisk-1")?,
            compatible: Vec::new(),
        };
        let fit = fit::Fit {
            description: "meta-lava's ghost".into(),
            timestamp: Some(0),
            images,
            default: Some(configuration.name.clone()),
            configurations: vec![configuration],
        };
        Ok(Built { bytes: fit.to_bytes()?, tree, ..Built::default() })
    }
}

impl Built {
    fn unpacked(self, compress: Compress, content: Content) -> Self {
        Self { unpacked: (compress != Compress::None).then_some(content), ..self }
    }

    /// Puts a legacy U-Boot header before the bytes, when there is an architecture for it.
    fn wrap(
        self,
        arch: Option<&str>,
        image_type: uimage::ImageType,
        compress: Compress,
        load: u32,
    ) -> anyhow::Result<Self> {
        let Some(arch) = arch else { return Ok(self) };
        let header = uimage::Header {
            time: 0,
            load,
            entry: load,
            os: uimage::Os::LINUX,
            arch: uimage::Arch::from_name(arch).with_context(|| format!("no architecture {arch}"))?,
            image_type,
            comp: compress.uimage(image_type)?,
            name: format!("Linux-{}", kernel::RELEASE),
        };
        let unpacked = self.unpacked.or_else(|| Some(Content::of(&self.bytes)));
        Ok(Self { bytes: uimage::write(&header, &self.bytes)?, unpacked, ..self })
    }
}

/// The least that a board's device tree has.
fn device_tree(model: &str, compatible: &[String], chosen: Option<&Chosen>) -> Fdt {
    let mut fdt = Fdt::default();
    fdt.root.set_text("model", model);
    if !compatible.is_empty() {
        fdt.root.set_text("compatible", &compatible.join("\0"));
    }
    fdt.root.set_u32("#address-cells", 2);
    fdt.root.set_u32("#size-cells", 2);
    let mut memory = Node::new("memory@40000000");
    memory.set_text("device_type", "memory");
    // 1 GiB at 1 GiB.
    memory.set("reg", [0x4000_0000u64.to_be_bytes(), 0x4000_0000u64.to_be_bytes()].concat());
    let mut told = Node::new("chosen");
    if let Some(Chosen { bootargs, initrd: (start, end) }) = chosen {
        told.set_text("bootargs", bootargs);
        told.set_u32("linux,initrd-start", *start);
        told.set_u32("linux,initrd-end", *end);
    }
    fdt.root.children = vec![Node::new("aliases"), told, memory];
    fdt
}

/// Adds nodes with labels to a device tree, and the list of these.
fn label(tree: &mut Fdt, labels: &BTreeMap<String, String>) {
    let mut symbols = Node::new("__symbols__");
    for (phandle, (label, path)) in (1..).zip(labels) {
        let mut node = &mut tree.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = node.children.iter().position(|child| child.name == name).unwrap_or_else(|| {
                node.children.push(Node::new(name));
                node.children.len() - 1
            });
            node = &mut node.children[found];
        }
        node.set_u32("phandle", phandle);
        symbols.set_text(label, path);
    }
    tree.root.children.push(symbols);
}

impl Overlay {
    /// The device tree that it is: what `dtc` cannot know yet, phandles of the base's and where its own will begin, is in lists beside the
    /// fragment.
    fn tree(&self) -> anyhow::Result<Fdt> {
        const CONTENT: &str = "/fragment@0/__overlay__";
        /// A phandle that is yet to be looked up.
        const UNRESOLVED: u32 = u32::MAX;
        let (mut fixups, mut own) = (BTreeMap::<&str, Vec<String>>::new(), Vec::new());
        let mut fragment = Node::new("fragment@0");
        match self.target.starts_with('/') {
            true => fragment.set_text("target-path", &self.target),
            false => {
                fragment.set_u32("target", UNRESOLVED);
                fixups.entry(&self.target).or_default().push("/fragment@0:target:0".into());
            }
        }
        let place = self.node.as_ref().map_or(CONTENT.to_owned(), |node| format!("{CONTENT}/{node}"));
        let mut node = Node::new(self.node.as_deref().unwrap_or("__overlay__"));
        for (name, text) in &self.texts {
            node.set_text(name, text);
        }
        for (name, label) in &self.refers {
            if self.label.as_ref() == Some(label) {
                own.push(name);
                node.set_u32(name, 1);
            } else {
                fixups.entry(label).or_default().push(format!("{place}:{name}:0"));
                node.set_u32(name, UNRESOLVED);
            }
        }
        let mut tree = Fdt::default();
        let mut symbols = Node::new("__symbols__");
        if let Some(label) = &self.label {
            if self.node.is_none() {
                bail!("{label}: a label is for a node that is added");
            }
            node.set_u32("phandle", 1);
            symbols.set_text(label, &place);
        }
        fragment.children = match self.node {
            Some(_) => vec![Node { children: vec![node], ..Node::new("__overlay__") }],
            None => vec![node],
        };
        tree.root.children = vec![fragment, symbols, Node::new("__fixups__")];
        for (label, places) in fixups {
            tree.set("/__fixups__", label, format!("{}\0", places.join("\0")))?;
        }
        if let (Some(name), false) = (&self.node, own.is_empty()) {
            let mut node = Node::new(name);
            for property in own {
                node.set_u32(property, 0);
            }
            let content = Node { children: vec![node], ..Node::new("__overlay__") };
            let fragment = Node { children: vec![content], ..Node::new("fragment@0") };
            tree.root.children.push(Node { children: vec![fragment], ..Node::new("__local_fixups__") });
        }
        Ok(tree)
    }
}

/// `size` bytes that do not compress: hashes of the path and a counter.
fn blob(path: &str, size: usize) -> Vec<u8> {
    let hashes = (0u64..)
        .flat_map(|index| meta_lava_formats::sha256(format!("{path}:{index}").as_bytes()).into_bytes());
    hashes.take(size).collect()
}

#[cfg(test)]
mod tests {
    use meta_lava_formats::kernel::MAX_KERNEL;
    use meta_lava_formats::tree::NodeKind;
    use tempfile::TempDir;

    use super::*;

    /// A script that answers as busybox does, and what was built with it.
    fn built() -> (TempDir, Manifest) {
        use std::os::unix::fs::PermissionsExt;

        const SCRIPT: &str = "#!/bin/sh\n\
            case $1 in\n\
            --list-full) echo usr/bin/awk; echo sbin/init; echo bin/busybox; echo bin/sh; echo usr/bin/dpkg;;\n\
            mkpasswd) echo \"hash of $6\";;\n\
            *.tar) cp \"$1\" \"$3\" && truncate -s %4096 \"$3\";;\n\
            esac\n";
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("busybox");
        std::fs::write(&path, SCRIPT).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The machine that builds images of containers has the programs for them; this one need not.
        let mut list = std::fs::read_to_string(here.join("artifacts.yaml")).unwrap();
        for program in [
            "/bin/bash-static",
            "/usr/lib/meta-lava/world/ext2.sh",
            "/usr/lib/meta-lava/world/iso.sh",
            "/usr/lib/openssh/sftp-server",
            "/usr/sbin/sshd",
        ] {
            list = list.replace(&format!(" {program}"), &format!(" {}", path.display()));
        }
        let list = List::parse(&list).unwrap();
        let userland = Userland::read(&here.join("userland")).unwrap();
        let manifest = build(&list, &load(&path), &userland, &dir.path().join("store")).unwrap();
        (dir, manifest)
    }

    fn load(path: &Path) -> Busybox {
        // The script can't be run while another test's child still holds it open for writing.
        for _ in 0..50 {
            if let Ok(busybox) = Busybox::load(path) {
                return busybox;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Busybox::load(path).unwrap()
    }

    fn store(dir: &TempDir, path: &str) -> Vec<u8> {
        std::fs::read(dir.path().join("store").join(path)).unwrap()
    }

    #[test]
    fn an_archive_has_its_texts_and_its_parts() {
        let (dir, manifest) = built();
        let path = "bootloader/juno/recovery.tar.gz";
        let packed = store(&dir, path);
        let archive = compress::decompress(&packed, 1 << 20).unwrap();
        assert_eq!(manifest.artifacts[path].unpacked, Some(Content::of(&archive)));
        let tree = tar::read(&archive).unwrap();
        let paths: Vec<&str> = tree.nodes.iter().map(|node| node.path.as_str()).collect();
        let list =
            ["SITE1/HBI0262B/board.txt", "SITE1/HBI0262B/images.txt", "SOFTWARE/bl1.bin", "SOFTWARE/fip.bin"];
        assert_eq!(paths, [list.as_slice(), &["config.txt"]].concat());
        let fip = tree.get("SOFTWARE/fip.bin").map(|node| &node.kind);
        assert_eq!(fip, Some(&NodeKind::File(store(&dir, "bootloader/juno/fip.bin"))));
    }

    #[test]
    fn the_same_list_makes_the_same_bytes() {
        let ((one, manifest), (other, _)) = (built(), built());
        let paths = manifest.artifacts.keys().map(String::as_str).chain([manifest::FILE_NAME]);
        for path in paths {
            assert!(store(&one, path) == store(&other, path), "{path}");
        }
    }

    #[test]
    fn the_manifest_says_what_the_files_are() {
        let (dir, manifest) = built();
        assert_eq!(Manifest::read(&dir.path().join("store")).unwrap(), manifest);
        for (path, entry) in &manifest.artifacts {
            let bytes = store(&dir, path);
            let content = Content::of(&bytes);
            assert_eq!((entry.size, &entry.sha256), (content.size, &content.sha256), "{path}");
            let others = (meta_lava_formats::md5(&bytes), meta_lava_formats::sha512(&bytes));
            assert_eq!((&entry.md5, &entry.sha512), (&others.0, &others.1), "{path}");
        }
    }

    #[test]
    fn the_manifest_says_what_the_archives_hold() {
        let (dir, manifest) = built();
        for (path, entry) in manifest.artifacts.iter().filter(|(_, entry)| entry.tree.is_some()) {
            if [".ext2", ".simg", ".iso"].iter().any(|end| path.ends_with(end)) {
                // No archive; here its script copies one, of which parts are then blanked.
                continue;
            }
            let bytes = store(&dir, path);
            let fit = fit::parse(&bytes).ok();
            let in_fit = fit.iter().flat_map(|fit| &fit.images).find(|image| image.image_type == "ramdisk");
            let ramdisk = in_fit
                .map(|image| image.data.as_slice())
                .or_else(|| android::parse(&bytes).ok().map(|image| image.ramdisk));
            let whole = ramdisk.unwrap_or(&bytes);
            let data = uimage::parse(whole).map_or(whole, |image| image.data);
            let archive = compress::decompress(data, MAX_KERNEL).unwrap();
            let tree = if path.contains("cpio") || ramdisk.is_some() {
                cpio::parse(&archive).unwrap().tree
            } else {
                tar::read(&archive).unwrap()
            };
            assert_eq!(Some(&*tree.listing()), manifest.tree(path), "{path}");
            if data.len() == bytes.len() {
                let expected = (archive.len() != bytes.len()).then(|| Content::of(&archive));
                assert_eq!(entry.unpacked, expected, "{path}");
            }
        }
    }

    #[test]
    fn every_kernel_of_the_list_is_one() {
        let (dir, manifest) = built();
        for path in manifest.artifacts.keys().filter(|path| path.starts_with("kernel/")) {
            let bytes = store(&dir, path);
            let banner = kernel::banner(&bytes).unwrap();
            assert!(banner.starts_with("Linux version 6.1.83-ghost "), "{path}: {banner}");
            let bytes = uimage::parse(&bytes).map_or(&*bytes, |image| image.data);
            if let Ok(fit) = fit::parse(bytes) {
                assert!(kernel::recognise(&fit.boot(None).unwrap().kernel.data).is_ok(), "{path}");
            } else {
                let bytes = compress::decompress(bytes, MAX_KERNEL).unwrap();
                assert!(kernel::recognise(&bytes).is_ok(), "{path}");
            }
        }
    }

    #[test]
    fn the_root_file_system_has_an_init_and_no_package_manager() {
        let (dir, _) = built();
        let tree = cpio::parse(&store(&dir, "ramdisk/rootfs.cpio")).unwrap().tree;
        let target = |path: &str| match &tree.get(path)?.kind {
            meta_lava_formats::tree::NodeKind::Symlink(target) => Some(target.clone()),
            _ => None,
        };
        assert_eq!(target("init").as_deref(), Some("sbin/init"));
        assert_eq!(target("sbin/init").as_deref(), Some("../bin/busybox"));
        assert_eq!(target("usr/bin/awk").as_deref(), Some("../../bin/busybox"));
        assert_eq!(target("bin/sh").as_deref(), Some("busybox"));
        assert_eq!(tree.get("usr/bin/dpkg"), None);
        let login = tree.get("etc/shadow").map(|node| node.mode);
        assert_eq!(login, Some(0o600));
    }

    #[test]
    fn every_overlay_of_the_list_goes_onto_the_device_tree_with_labels() {
        let (dir, manifest) = built();
        let mut tree =
            meta_lava_formats::fdt::parse(&store(&dir, "dtb/am335x-boneblack-symbols.dtb")).unwrap();
        let overlays: Vec<_> = manifest.artifacts.keys().filter(|path| path.ends_with(".dtbo")).collect();
        assert!(overlays.len() > 1);
        // The later ones refer to what the first has added.
        for path in overlays {
            meta_lava_formats::fdt::overlay::apply(
                &mut tree,
                &meta_lava_formats::fdt::parse(&store(&dir, path)).unwrap(),
            )
            .unwrap();
        }
        assert_eq!(tree.model(), Some("TI AM335x BeagleBone Black with a clock"));
    }

    #[test]
    fn a_ramdisk_in_parts_is_what_both_hold() {
        let (dir, _) = built();
        for compression in ["gz", "zst"] {
            let both = store(&dir, &format!("ramdisk/parts.cpio.{compression}"));
            let then = store(&dir, &format!("ramdisk/rootfs.cpio.{compression}"));
            let first = both.strip_suffix(&*then).unwrap();
            assert!(cpio::parse(first).unwrap().tree.get("lib/firmware/early.bin").is_some());
        }
    }

    #[test]
    fn a_broken_list_is_refused() {
        let list = |artifact: &str| {
            List::parse(&format!("login: {{user: a, password: b}}\nartifacts: {{{artifact}}}"))
        };
        assert!(list("a: {kind: blob, size: 1}").is_ok());
        assert!(list("../a: {kind: blob, size: 1}").is_err());
        assert!(list("manifest.json: {kind: blob, size: 1}").is_err());
        assert!(list("a: {kind: blob, size: 1, colour: red}").is_err());
        assert!(list("a: {kind: cake}").is_err());
        let error = list("a: {kind: fit, arch: arm, kernel: b, load: 1}").unwrap_err().to_string();
        assert_eq!(error, "a: is made of b, which is not in the list");
    }
}
