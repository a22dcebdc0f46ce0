//! Programs of this machine.

/// Whether a program is on the `PATH`.
#[must_use]
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Whether this user may install packages.
#[must_use]
pub fn may_install() -> bool {
    nix::unistd::geteuid().is_root() && has_program("apt-get")
}
