//! The images that LAVA's own CI publishes (`lavasoftware/lava-server`). Their
//! entrypoint (`docker/share/entrypoints/lava-server.sh` in LAVA's source) starts
//! PostgreSQL, creates and migrates the database, makes the administrator whom
//! `LAVA_ADMIN_*` name, runs `/root/entrypoint.d`, and then starts gunicorn, Apache,
//! coordinator, publisher and scheduler.

use std::time::Duration;

use super::ServerKind;

/// `docker/lava-server` in LAVA's source, since 2019.
pub const KIND: ServerKind = ServerKind {
    name: "LAVA's published images",
    entrypoint: "/root/entrypoint.sh",
    overlay: Some("upstream.yaml"),
    // Its entrypoint makes no administrator without one.
    needs_password: true,
    // Settings come by the environment; this is read from nowhere but a file.
    configuration: &[("env.yaml", "server/env.yaml")],
    // Some hundred migrations, on a database that syncs its files: 23 s on a machine
    // that has nothing else to do.
    ready: Duration::from_secs(300),
};
