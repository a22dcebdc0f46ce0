//! Images of containers, in the format of `docker save` (`image/spec/v1.2.md` of moby): the board's root file system without
//! what starts it, and what the list adds.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, bail};
use meta_lava_formats::tree::Tree;
use meta_lava_formats::{compress, sha256, tar};
use serde::Deserialize;
use serde_json::json;

/// What is in an image beside busybox, and what a container of it is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// Programs of the machine that builds it, by their paths in the image; with the libraries that each is linked to.
    programs: BTreeMap<String, String>,
    /// Tools that are the ghost under another name: `fastboot`. The engine mounts the ghost.
    tools: Vec<String>,
    /// Folders with the board's root file system in them, as the image itself has it: roots for `chroot`.
    roots: Vec<String>,
    /// Texts, by their paths: one that begins with `#!` can be run, and one with `-----BEGIN` is for root only.
    files: BTreeMap<String, String>,
    /// `NAME=VALUE` each.
    env: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    workdir: String,
    user: String,
    /// The architecture that it says it is for, as Docker names it; this machine's where it says none.
    architecture: Option<String>,
}

/// Files of a board's root that no image has.
const BOARDS_OWN: &[&str] = &["etc/hostname", "etc/inittab", "init", "sbin/init"];

/// Makes the file of the image at `path` of the list.
pub fn build(path: &str, image: &Image, root: &Tree) -> anyhow::Result<Vec<u8>> {
    let mut tree = root.clone();
    tree.nodes.retain(|node| !BOARDS_OWN.contains(&node.path.as_str()));
    let inside = tree.nodes.clone();
    for root in &image.roots {
        tree.parents(root);
        tree.directory(root);
        tree.nodes.extend(inside.iter().cloned().map(|mut node| {
            node.path = format!("{root}/{}", node.path);
            node
        }));
    }
    for (to, from) in &image.programs {
        let program = std::fs::read(from).with_context(|| format!("can't read {from}"))?;
        tree.file(to, 0o755, program);
        for library in libraries(from)? {
            if tree.get(library.trim_start_matches('/')).is_none() {
                let bytes = std::fs::read(&library).with_context(|| format!("can't read {library}"))?;
                tree.file(library.trim_start_matches('/'), 0o755, bytes);
            }
        }
    }
    if !image.tools.is_empty() {
        // The engine mounts the worker's own there.
        tree.file("usr/bin/ghost", 0o755, "");
    }
    for tool in &image.tools {
        let program = meta_lava_ghost_tool(tool);
        tree.file(format!("usr/bin/{tool}"), 0o755, program);
    }
    for (to, text) in &image.files {
        tree.nodes.retain(|node| node.path != *to);
        tree.file(to, mode(text), text.as_bytes());
    }
    let layer = tar::write(&tree)?;
    let architecture = image.architecture.clone().unwrap_or_else(|| match std::env::consts::ARCH {
        "x86_64" => "amd64".into(),
        "aarch64" => "arm64".into(),
        other => other.into(),
    });
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": image.env,
            "Entrypoint": image.entrypoint,
            "Cmd": image.cmd,
            "WorkingDir": image.workdir,
            "User": image.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
        "history": [{"created_by": "meta-lava"}],
    }))?;
    let config_file = format!("{}.json", sha256(&config));
    let manifest = serde_json::to_vec(&json!([{
        "Config": config_file,
        "RepoTags": [name(path)?],
        "Layers": ["layer.tar"],
    }]))?;
    let mut archive = Tree::default();
    archive.file(config_file, 0o644, config);
    archive.file("layer.tar", 0o644, layer);
    archive.file("manifest.json", 0o644, manifest);
    Ok(compress::gzip(&tar::write(&archive)?)?)
}

/// The mode of a text.
fn mode(text: &str) -> u32 {
    match text {
        text if text.starts_with("#!") => 0o755,
        text if text.starts_with("-----BEGIN") => 0o600,
        _ => 0o644,
    }
}

/// The libraries that a program is linked to, its loader among them, by their paths; none of a program that is linked statically.
fn libraries(program: &str) -> anyhow::Result<Vec<String>> {
    let told = Command::new("ldd").arg(program).output().context("can't run ldd")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    if let Some(missing) = told.lines().find(|line| line.contains("not found")) {
        bail!("{program}: {}", missing.trim());
    }
    Ok(linked(&told))
}

/// The paths that `ldd` tells of.
fn linked(told: &str) -> Vec<String> {
    told.lines()
        .filter_map(|line| line.rsplit_once(" (0x").map(|(before, _)| before))
        .filter_map(|before| before.split_ascii_whitespace().next_back())
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// What the image at `image/HOST/REPOSITORY/TAG.tar.gz` is called.
fn name(path: &str) -> anyhow::Result<String> {
    let parts = path.strip_prefix("image/").and_then(|path| path.strip_suffix(".tar.gz"));
    let parts = parts.and_then(|path| path.rsplit_once('/'));
    let (repository, tag) = parts.context("an image is at image/HOST/REPOSITORY/TAG.tar.gz")?;
    Ok(format!("{repository}:{tag}"))
}

/// A program that is the ghost under another name, as a worker has it (`tools::program` of the ghost's crate, which this one does
/// not know).
fn meta_lava_ghost_tool(tool: &str) -> String {
    format!("#!/bin/sh\nexec ghost tool {tool} \"$@\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As glibc 2.36 prints it.
    #[test]
    fn the_libraries_of_a_program_are_those_that_ldd_finds() {
        let told = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(linked(told), ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"]);
        assert!(linked("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_private_key_is_for_root_only() {
        assert_eq!(mode("-----BEGIN OPENSSH PRIVATE KEY-----\n"), 0o600);
        assert_eq!((mode("#!/bin/sh\n"), mode("a text\n")), (0o755, 0o644));
    }

    #[test]
    fn a_root_in_an_image_is_what_the_image_has_without_what_the_list_adds() {
        let mut root = Tree::default();
        root.file("bin/sh", 0o755, "busybox");
        root.symlink("init", "sbin/init");
        let files = [("srv/sid/etc/debian_chroot".into(), "sid\n".into())].into();
        let image =
            Image { roots: vec!["srv/sid".into()], tools: vec!["schroot".into()], files, ..Image::default() };
        let bytes = build("image/registry.example.org/lab/a/1.tar.gz", &image, &root).unwrap();
        let tree = layer(&bytes);
        for there in
            ["bin/sh", "usr/bin/schroot", "srv", "srv/sid", "srv/sid/bin/sh", "srv/sid/etc/debian_chroot"]
        {
            assert!(tree.get(there).is_some(), "{there}");
        }
        for not_there in ["srv/sid/init", "srv/sid/usr/bin/schroot"] {
            assert!(tree.get(not_there).is_none(), "{not_there}");
        }
    }

    /// What is in the image's one layer.
    fn layer(bytes: &[u8]) -> Tree {
        let archive = tar::read(&compress::decompress(bytes, 1 << 20).unwrap()).unwrap();
        let meta_lava_formats::tree::NodeKind::File(layer) = &archive.get("layer.tar").unwrap().kind else {
            panic!()
        };
        tar::read(layer).unwrap()
    }

    #[test]
    fn an_image_is_what_docker_save_writes() {
        let mut root = Tree::default();
        root.file("bin/sh", 0o755, "busybox");
        root.symlink("init", "sbin/init");
        let image = Image { tools: vec!["fastboot".into()], ..Image::default() };
        let bytes = build("image/registry.example.org/lab/a/1.tar.gz", &image, &root).unwrap();
        let archive = tar::read(&compress::decompress(&bytes, 1 << 20).unwrap()).unwrap();
        let layer = archive.get("layer.tar").unwrap();
        let meta_lava_formats::tree::NodeKind::File(layer) = &layer.kind else { panic!() };
        let tree = tar::read(layer).unwrap();
        assert!(tree.get("bin/sh").is_some() && tree.get("usr/bin/fastboot").is_some());
        assert!(tree.get("init").is_none(), "nothing starts a board there");
        let manifest = archive.get("manifest.json").unwrap();
        let meta_lava_formats::tree::NodeKind::File(manifest) = &manifest.kind else { panic!() };
        assert!(String::from_utf8_lossy(manifest).contains("registry.example.org/lab/a:1"));
        assert!(build("image/a.tar.gz", &Image::default(), &root).is_err());
    }
}
