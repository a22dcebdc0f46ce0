//! The kernel command line, as far as it says what to run
//! (`Documentation/admin-guide/kernel-parameters.txt` and `nfs/nfsroot.rst`).

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cmdline<'a>(pub(super) &'a str);

/// Where an NFS root lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NfsRoot {
    /// Its server; if missing, the one that DHCP names.
    pub(super) server: Option<String>,
    /// The exported directory.
    pub(super) path: String,
}

/// How the kernel is to get an address (`ip=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ip<'a> {
    /// It was not asked to.
    Unasked,
    /// It was told not to.
    Off,
    /// By a protocol.
    Auto,
    /// This one.
    Static(&'a str),
}

impl<'a> Cmdline<'a> {
    /// The words for the kernel, that is, before a `--`.
    fn words(self) -> impl Iterator<Item = &'a str> {
        self.0.split_ascii_whitespace().take_while(|word| *word != "--")
    }

    /// The value of a parameter; the last one if it is given several times.
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        self.words().filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).last()
    }

    /// The words for PID 1.
    pub(super) fn init_args(self) -> Vec<String> {
        self.0.split_ascii_whitespace().skip_while(|word| *word != "--").skip(1).map(str::to_owned).collect()
    }

    /// Seconds to a reboot after a panic, if it is to reboot.
    pub(super) fn panic_reboot(self) -> Option<u64> {
        self.get("panic")?.parse().ok().filter(|seconds| *seconds > 0)
    }

    /// The NFS root, if the root is one.
    pub(super) fn nfs_root(self) -> Option<NfsRoot> {
        if self.get("root") != Some("/dev/nfs") {
            return None;
        }
        let value = self.get("nfsroot").unwrap_or_default();
        let place = value.split(',').next().unwrap_or_default();
        Some(match place.split_once(":/") {
            Some((server, path)) => NfsRoot { server: Some(server.to_owned()), path: format!("/{path}") },
            None => NfsRoot { server: None, path: place.to_owned() },
        })
    }

    /// The server of a network block device that a ramdisk is to mount, with its port: `nbd.server=` and `nbd.port=`, as the
    /// ramdisks take them that LAVA's templates are for.
    pub(super) fn nbd(self) -> Option<String> {
        let (server, port) = (self.get("nbd.server")?, self.get("nbd.port")?);
        Some(format!("{server}:{}", port.parse::<u16>().ok()?))
    }

    /// See [`Ip`].
    pub(super) fn ip(self) -> Ip<'a> {
        let Some(value) = self.get("ip") else { return Ip::Unasked };
        match value.split(':').next().unwrap_or_default() {
            "off" | "none" => Ip::Off,
            "dhcp" | "on" | "any" | "both" | "bootp" | "rarp" => Ip::Auto,
            "" => match value.rsplit(':').next() {
                Some("off" | "none") => Ip::Off,
                _ => Ip::Auto,
            },
            address => Ip::Static(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_counts_and_init_has_the_rest() {
        let cmdline = Cmdline("console=tty0 console=ttyS0 quiet init=/a -- single init=/b");
        assert_eq!(cmdline.get("console"), Some("ttyS0"));
        assert_eq!(cmdline.get("init"), Some("/a"));
        assert_eq!(cmdline.get("quiet"), None);
        assert_eq!(cmdline.init_args(), ["single", "init=/b"]);
    }

    #[test]
    fn an_nfs_root_has_a_path_and_perhaps_a_server() {
        let root = |cmdline| Cmdline(cmdline).nfs_root();
        assert_eq!(
            root("root=/dev/nfs rw nfsroot=10.0.0.1:/srv/a:b,tcp,hard,v3 ip=dhcp"),
            Some(NfsRoot { server: Some("10.0.0.1".into()), path: "/srv/a:b".into() })
        );
        assert_eq!(
            root("root=/dev/nfs nfsroot=/srv/root"),
            Some(NfsRoot { server: None, path: "/srv/root".into() })
        );
        assert_eq!(root("root=/dev/mmcblk0p2 nfsroot=1:/a"), None);
    }

    #[test]
    fn an_address_comes_by_dhcp_or_is_given_or_is_not_wanted() {
        let ip = |cmdline| Cmdline(cmdline).ip();
        assert_eq!(ip("quiet"), Ip::Unasked);
        assert_eq!(ip("ip=dhcp"), Ip::Auto);
        assert_eq!(ip("ip=:::::eth0:dhcp"), Ip::Auto);
        assert_eq!(ip("ip=:::::eth0:off"), Ip::Off);
        assert_eq!(ip("ip=off"), Ip::Off);
        assert_eq!(ip("ip=10.0.0.2:10.0.0.1::255.255.255.0"), Ip::Static("10.0.0.2"));
    }

    #[test]
    fn a_network_block_device_has_a_server_and_a_port() {
        let nbd = |cmdline| Cmdline(cmdline).nbd();
        assert_eq!(nbd("nbd.server=10.0.0.1 nbd.port=55000").as_deref(), Some("10.0.0.1:55000"));
        assert_eq!(nbd("nbd.server=10.0.0.1 nbd.port={PORT}"), None);
        assert_eq!(nbd("nbd.server=10.0.0.1"), None);
    }

    #[test]
    fn only_a_positive_panic_reboots() {
        assert_eq!(Cmdline("panic=5").panic_reboot(), Some(5));
        assert_eq!(Cmdline("panic=0").panic_reboot(), None);
        assert_eq!(Cmdline("panic=-1").panic_reboot(), None);
    }
}
