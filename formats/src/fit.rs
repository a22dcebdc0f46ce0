//! FIT images: a device tree that holds kernels, device trees and ramdisks, and says which belong
//! together.
//!
//! Format: U-Boot's `doc/usage/fit/source_file_format.rst`, now the Flat Image Tree
//! specification. No crate reads it; the device tree below is read by [`crate::fdt`].

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::fdt::{self, Fdt, Node};

/// Why bytes are no FIT image, or it can't be booted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not even a device tree.
    #[error(transparent)]
    Fdt(#[from] fdt::Error),
    /// A device tree without what makes it a FIT image.
    #[error("no {0} in the fit image")]
    Missing(String),
    /// Data that is said to lie outside of the file.
    #[error("data of image {0} is truncated")]
    Truncated(String),
    /// The data is not what it was when it was hashed.
    #[error("bad {algo} hash of image {image}")]
    BadHash {
        /// The image.
        image: String,
        /// `crc32`, `sha1` or `sha256`.
        algo: String,
    },
    /// A hash that can't be checked here.
    #[error("unsupported hash algorithm {0}")]
    UnknownHash(String),
}

/// A FIT image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fit {
    /// What the image says that it is.
    pub description: String,
    /// When it was made, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// What it holds, in its order.
    pub images: Vec<Image>,
    /// What belongs together, in its order.
    pub configurations: Vec<Configuration>,
    /// Name of the configuration that is booted when none is asked for.
    pub default: Option<String>,
}

/// One of the files in a FIT image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// Name of its node, such as `kernel-1`.
    pub name: String,
    /// What it says that it is.
    pub description: String,
    /// `kernel`, `flat_dt`, `ramdisk`, ... as [`crate::uimage::ImageType::name`] has them.
    pub image_type: String,
    /// `arm64`, ... as [`crate::uimage::Arch::name`] has them.
    pub arch: String,
    /// `linux`, ...; a device tree has none.
    pub os: Option<String>,
    /// `none`, `gzip`, `lzma`, ... as [`crate::uimage::Comp::name`] has them.
    pub compression: String,
    /// Where to load it in memory.
    pub load: Option<u64>,
    /// Where to start in memory.
    pub entry: Option<u64>,
    /// The file, still compressed.
    pub data: Vec<u8>,
    /// Hashes of the data.
    pub hashes: Vec<Hash>,
}

/// A hash of an image's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash {
    /// `crc32`, `sha1`, `sha256`, or one that is not known here.
    pub algo: String,
    /// The hash; of a CRC the four bytes, most significant first.
    pub value: Vec<u8>,
}

/// Which images belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Name of its node, such as `conf-1`.
    pub name: String,
    /// What it says that it is.
    pub description: String,
    /// Boards that it is for, as in a device tree's `compatible`.
    pub compatible: Vec<String>,
    /// Name of the kernel.
    pub kernel: Option<String>,
    /// Names of the device tree and of overlays to lay over it.
    pub fdt: Vec<String>,
    /// Name of the ramdisk.
    pub ramdisk: Option<String>,
}

/// What a configuration boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot<'a> {
    /// The configuration.
    pub configuration: &'a Configuration,
    /// Its kernel.
    pub kernel: &'a Image,
    /// Its device tree, the first when there are more.
    pub fdt: Option<&'a Image>,
    /// Its ramdisk.
    pub ramdisk: Option<&'a Image>,
}

/// Reads a FIT image, with its data inside of the device tree or behind it (`mkimage -E`). Hashes
/// are not checked yet: see [`Image::verify`].
///
/// # Errors
///
/// See [`Error`].
pub fn parse(bytes: &[u8]) -> Result<Fit, Error> {
    let tree = fdt::parse(bytes)?;
    let images = tree.node("/images").ok_or_else(|| Error::Missing("/images".into()))?;
    // External data starts behind the tree, at a multiple of 4.
    let behind = crate::align(fdt::total_size(bytes).unwrap_or(usize::MAX), 4);
    let images = images.children.iter().map(|node| image(node, bytes, behind)).collect::<Result<_, _>>()?;
    let configurations = tree.node("/configurations");
    let owned = |node: &Node, name: &str| node.text(name).map(str::to_owned);
    let list = |node: &Node, name: &str| node.texts(name).into_iter().map(str::to_owned).collect();
    Ok(Fit {
        description: owned(&tree.root, "description").unwrap_or_default(),
        timestamp: tree.root.number("timestamp"),
        images,
        default: configurations.and_then(|node| owned(node, "default")),
        configurations: configurations
            .map(|node| &*node.children)
            .unwrap_or_default()
            .iter()
            .map(|node| Configuration {
                name: node.name.clone(),
                description: owned(node, "description").unwrap_or_default(),
                compatible: list(node, "compatible"),
                kernel: owned(node, "kernel"),
                fdt: list(node, "fdt"),
                ramdisk: owned(node, "ramdisk"),
            })
            .collect(),
    })
}

fn image(node: &Node, bytes: &[u8], behind: usize) -> Result<Image, Error> {
    let text = |name: &str| node.text(name).map(str::to_owned);
    let truncated = || Error::Truncated(node.name.clone());
    let number = |name: &str| match node.property(name) {
        Some(_) => node.number(name).and_then(|n| usize::try_from(n).ok()).map(Some).ok_or_else(truncated),
        None => Ok(None),
    };
    let start = match (number("data-position")?, number("data-offset")?) {
        (Some(position), _) => Some(position),
        (None, Some(offset)) => Some(behind.checked_add(offset).ok_or_else(truncated)?),
        (None, None) => None,
    };
    let data = match (node.property("data"), start) {
        (Some(data), _) => data,
        (None, Some(start)) => {
            let size =
                number("data-size")?.ok_or_else(|| Error::Missing(format!("data-size of {}", node.name)))?;
            start.checked_add(size).and_then(|end| bytes.get(start..end)).ok_or_else(truncated)?
        }
        (None, None) => return Err(Error::Missing(format!("data of {}", node.name))),
    };
    let hash = |node: &Node| {
        let algo = node.text("algo")?.to_owned();
        Some(Hash { algo, value: node.property("value")?.to_vec() })
    };
    Ok(Image {
        name: node.name.clone(),
        description: text("description").unwrap_or_default(),
        image_type: text("type").ok_or_else(|| Error::Missing(format!("type of {}", node.name)))?,
        arch: text("arch").unwrap_or_default(),
        os: text("os"),
        compression: text("compression").unwrap_or_else(|| "none".into()),
        load: node.number("load"),
        entry: node.number("entry"),
        data: data.to_vec(),
        // Named `hash-1`, in old files `hash@1`.
        hashes: node
            .children
            .iter()
            .filter(|child| child.name.starts_with("hash"))
            .filter_map(hash)
            .collect(),
    })
}

/// The hash of `data` that a FIT image calls `algo`; nothing when it is not known here.
fn hash_of(algo: &str, data: &[u8]) -> Option<Vec<u8>> {
    match algo {
        "crc32" => Some(crc32fast::hash(data).to_be_bytes().to_vec()),
        "sha1" => Some(Sha1::digest(data).to_vec()),
        "sha256" => Some(Sha256::digest(data).to_vec()),
        _ => None,
    }
}

impl Image {
    /// Checks all hashes of the data; an image without any is taken as it is, as U-Boot does.
    ///
    /// # Errors
    ///
    /// [`Error::BadHash`] or [`Error::UnknownHash`].
    pub fn verify(&self) -> Result<(), Error> {
        for hash in &self.hashes {
            match hash_of(&hash.algo, &self.data) {
                None => return Err(Error::UnknownHash(hash.algo.clone())),
                Some(value) if value == hash.value => {}
                Some(_) => {
                    return Err(Error::BadHash { image: self.name.clone(), algo: hash.algo.clone() });
                }
            }
        }
        Ok(())
    }

    /// Adds a hash of the data as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownHash`].
    pub fn add_hash(&mut self, algo: &str) -> Result<(), Error> {
        let value = hash_of(algo, &self.data).ok_or_else(|| Error::UnknownHash(algo.into()))?;
        self.hashes.push(Hash { algo: algo.into(), value });
        Ok(())
    }
}

impl Fit {
    /// The image of this name.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.name == name)
    }

    /// What a configuration boots: the one of this name, else the default, else the first.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when there is no such configuration, it names no kernel, or an image
    /// that it names is not there.
    pub fn boot(&self, configuration: Option<&str>) -> Result<Boot<'_>, Error> {
        let name = configuration.or(self.default.as_deref());
        let configuration = match name {
            Some(name) => self.configurations.iter().find(|configuration| configuration.name == name),
            None => self.configurations.first(),
        };
        let configuration = configuration.ok_or_else(|| {
            Error::Missing(name.map_or("configuration".into(), |name| format!("configuration {name}")))
        })?;
        let image = |name: &String| self.image(name).ok_or_else(|| Error::Missing(format!("image {name}")));
        let kernel = configuration.kernel.as_ref();
        let kernel = kernel.ok_or_else(|| Error::Missing(format!("kernel of {}", configuration.name)))?;
        Ok(Boot {
            configuration,
            kernel: image(kernel)?,
            fdt: configuration.fdt.first().map(image).transpose()?,
            ramdisk: configuration.ramdisk.as_ref().map(image).transpose()?,
        })
    }

    /// Writes the image with its data inside of the device tree.
    ///
    /// # Errors
    ///
    /// [`Error::Fdt`] for names that can't be, or 4 GiB and more.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut tree = Fdt::default();
        if let Some(timestamp) = self.timestamp {
            set_number(&mut tree.root, "timestamp", timestamp);
        }
        tree.root.set_text("description", &self.description);
        tree.root.set_u32("#address-cells", 1);
        let mut images = Node::new("images");
        images.children = self.images.iter().map(image_node).collect();
        let mut configurations = Node::new("configurations");
        if let Some(default) = &self.default {
            configurations.set_text("default", default);
        }
        configurations.children = self.configurations.iter().map(configuration_node).collect();
        tree.root.children = vec![images, configurations];
        Ok(tree.to_bytes()?)
    }
}

fn set_number(node: &mut Node, name: &str, number: u64) {
    match u32::try_from(number) {
        Ok(number) => node.set_u32(name, number),
        Err(_) => node.set(name, number.to_be_bytes()),
    }
}

fn image_node(image: &Image) -> Node {
    let mut node = Node::new(&image.name);
    node.set_text("description", &image.description);
    node.set_text("type", &image.image_type);
    node.set_text("arch", &image.arch);
    if let Some(os) = &image.os {
        node.set_text("os", os);
    }
    node.set_text("compression", &image.compression);
    for (name, address) in [("load", image.load), ("entry", image.entry)] {
        if let Some(address) = address {
            set_number(&mut node, name, address);
        }
    }
    node.set("data", image.data.as_slice());
    for (index, hash) in image.hashes.iter().enumerate() {
        let mut child = Node::new(format!("hash-{}", index + 1));
        child.set_text("algo", &hash.algo);
        child.set("value", hash.value.as_slice());
        node.children.push(child);
    }
    node
}

fn configuration_node(configuration: &Configuration) -> Node {
    let mut node = Node::new(&configuration.name);
    node.set_text("description", &configuration.description);
    for (name, list) in [("compatible", &configuration.compatible), ("fdt", &configuration.fdt)] {
        if !list.is_empty() {
            node.set_text(name, &list.join("\0"));
        }
    }
    for (name, image) in [("kernel", &configuration.kernel), ("ramdisk", &configuration.ramdisk)] {
        if let Some(image) = image {
            node.set_text(name, image);
        }
    }
    node
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(name: &str, image_type: &str, data: &[u8]) -> Image {
        let mut image = Image {
            name: name.into(),
            description: format!("the {image_type}"),
            image_type: image_type.into(),
            arch: "arm64".into(),
            os: (image_type != "flat_dt").then(|| "linux".into()),
            compression: "none".into(),
            data: data.into(),
            ..Image::default()
        };
        for algo in ["crc32", "sha1", "sha256"] {
            image.add_hash(algo).unwrap();
        }
        image
    }

    fn fit() -> Fit {
        let mut kernel = image("kernel-1", "kernel", b"a kernel");
        (kernel.load, kernel.entry) = (Some(0), Some(0x1_0000_0000));
        Fit {
            description: "a ghost's".into(),
            timestamp: Some(1),
            images: vec![
                kernel,
                image("fdt-1", "flat_dt", b"a tree"),
                image("ramdisk-1", "ramdisk", b"a ramdisk"),
            ],
            configurations: vec![
                Configuration { name: "conf-0".into(), ..Configuration::default() },
                Configuration {
                    name: "conf-1".into(),
                    description: "x.dtb".into(),
                    compatible: vec!["a,b".into(), "c,d".into()],
                    kernel: Some("kernel-1".into()),
                    fdt: vec!["fdt-1".into()],
                    ramdisk: Some("ramdisk-1".into()),
                },
            ],
            default: Some("conf-1".into()),
        }
    }

    #[test]
    fn what_was_written_is_read_and_verified() {
        let read = parse(&fit().to_bytes().unwrap()).unwrap();
        assert_eq!(read, fit());
        for image in &read.images {
            assert_eq!(image.verify(), Ok(()));
        }
    }

    #[test]
    fn the_default_configuration_is_booted_unless_another_is_asked_for() {
        let fit = fit();
        let boot = fit.boot(None).unwrap();
        assert_eq!(boot.kernel.data, b"a kernel");
        assert_eq!(boot.fdt.map(|image| &*image.name), Some("fdt-1"));
        assert_eq!(boot.ramdisk.map(|image| &*image.name), Some("ramdisk-1"));
        assert_eq!(fit.boot(Some("conf-0")), Err(Error::Missing("kernel of conf-0".into())));
        assert_eq!(fit.boot(Some("conf-2")), Err(Error::Missing("configuration conf-2".into())));
    }

    #[test]
    fn data_that_changed_is_noticed() {
        let mut fit = fit();
        fit.images[0].data[0] ^= 1;
        let expected = Error::BadHash { image: "kernel-1".into(), algo: "crc32".into() };
        assert_eq!(fit.images[0].verify(), Err(expected));
        fit.images[0].hashes[0].algo = "md4".into();
        assert_eq!(fit.images[0].verify(), Err(Error::UnknownHash("md4".into())));
    }

    /// The image with its first image's data outside: `at` gives the property for its place.
    fn external(at: impl Fn(usize) -> (&'static str, u32)) -> Vec<u8> {
        let mut tree = fdt::parse(&fit().to_bytes().unwrap()).unwrap();
        let image = &mut tree.root.children[0].children[0];
        image.properties.retain(|property| property.name != "data");
        image.set_u32("data-size", 8);
        image.set_u32("data-offset", 0);
        let size = tree.to_bytes().unwrap().len();
        let image = &mut tree.root.children[0].children[0];
        image.properties.retain(|property| property.name != "data-offset");
        let (name, value) = at(size);
        image.set_u32(name, value);
        let mut bytes = tree.to_bytes().unwrap();
        bytes.resize(crate::align(size + 100, 4), 0);
        bytes.extend(b"a kernel");
        bytes
    }

    #[test]
    fn data_behind_the_tree_is_found_by_its_offset_or_position() {
        let offset =
            |size: usize| ("data-offset", (crate::align(size + 100, 4) - crate::align(size, 4)) as u32);
        assert_eq!(parse(&external(offset)).unwrap().images[0].verify(), Ok(()));
        let outside = |_| ("data-offset", 5000);
        assert_eq!(parse(&external(outside)), Err(Error::Truncated("kernel-1".into())));
        // The name of this property is longer, and so is the tree.
        let position = |size: usize| ("data-position", crate::align(size + 100, 4) as u32);
        let fit = parse(&external(position)).unwrap();
        assert_eq!(fit.images[0].verify(), Ok(()));
    }

    #[test]
    fn a_device_tree_alone_is_no_fit_image() {
        let bytes = Fdt::default().to_bytes().unwrap();
        assert_eq!(parse(&bytes), Err(Error::Missing("/images".into())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_damage_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = fit().to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(fit) = parse(&bytes) {
                let _ = fit.boot(None).map(|boot| boot.kernel.verify());
            }
        }
    }
}
