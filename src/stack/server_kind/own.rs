//! Our own image: Debian's packages, its database migrated when it was built.

use std::time::Duration;

use super::ServerKind;

/// `compose/server`.
pub const KIND: ServerKind = ServerKind {
    name: "meta-lava's own",
    entrypoint: "/usr/lib/meta-lava/server/entrypoint.py",
    overlay: None,
    needs_password: false,
    configuration: &[],
    ready: Duration::from_secs(120),
};
