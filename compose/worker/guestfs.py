"""What LAVA asks of libguestfs, done by e2fsprogs instead of a virtual machine.

LAVA writes tests into disk images by libguestfs (`lava_dispatcher/utils/filesystem.py`, `apply_overlay.py`), which starts a
virtual machine for each of them: a kernel, QEMU and KVM, or a minute of a processor's time without that. So this module stands where
python3-guestfs would be, in front of it on Python's path. The images are real ones, made and written by Debian's mke2fs, debugfs and
qemu-img; LAVA's newer releases do the same by themselves where they can.

It has what LAVA uses of libguestfs 1.48 to 1.56, and no more: anything else is an AttributeError. What the library would refuse is a
RuntimeError, as there. Discs are read by Debian's bsdtar.
"""
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile

# What debugfs says where tar would just go on: a folder is there already, or a file that is to be replaced is not there.
HARMLESS = re.compile(r"^(debugfs \d|(ext2fs_)?mkdir2?: Ext2 directory already exists|rm: File not found)")


def _run(what, *command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{what}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class _Drive:
    """An image, and the raw one that is worked on."""

    def __init__(self, path, format, readonly):
        self.path, self.format, self.readonly = path, format, readonly
        self.raw = path

    def open(self, folder):
        if self.format == "qcow2":
            self.raw = os.path.join(folder, f"{id(self)}.raw")
            _run("launch", "qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.path, self.raw)

    def write_back(self):
        if self.raw != self.path and not self.readonly:
            _run("umount", "qemu-img", "convert", "-f", "raw", "-O", self.format, self.raw, self.path)


class GuestFS:
    def __init__(self, python_return_dict=False):
        if not python_return_dict:
            raise TypeError("not played: python_return_dict=False")
        self._drives = []
        self._folder = None
        self._mounted = None

    # Before the launch.

    def disk_create(self, filename, format, size):
        _run("disk_create", "qemu-img", "create", "-f", format, filename, str(size))

    def add_drive_opts(self, filename, readonly=False, format=None):
        if not os.path.exists(filename):
            raise RuntimeError(f"{filename}: No such file or directory")
        self._drives.append(_Drive(filename, format or "raw", readonly))

    def add_drive(self, filename):
        self.add_drive_opts(filename)

    def add_drive_ro(self, filename):
        self.add_drive_opts(filename, readonly=True)

    def launch(self):
        self._folder = tempfile.mkdtemp()
        for drive in self._drives:
            drive.open(self._folder)

    # Devices.

    def list_devices(self):
        return [f"/dev/sd{chr(ord('a') + number)}" for number in range(len(self._drives))]

    def list_partitions(self):
        return [
            f"{device}{number}"
            for device, drive in zip(self.list_devices(), self._drives)
            for number in range(1, 1 + len(self._partitions(drive)))
        ]

    def _partitions(self, drive):
        """Where each partition begins, in bytes."""
        done = subprocess.run(["sfdisk", "-J", drive.raw], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return []
        table = json.loads(done.stdout)["partitiontable"]
        size = table.get("sectorsize", 512)
        return [partition["start"] * size for partition in table.get("partitions", [])]

    def _find(self, what, device):
        """The drive of a device, and the device as e2fsprogs call it."""
        found = re.fullmatch(r"/dev/sd([a-z])(\d*)", device)
        number = ord(found[1]) - ord("a") if found else len(self._drives)
        if number >= len(self._drives):
            raise RuntimeError(f"{what}: {device}: No such file or directory")
        drive = self._drives[number]
        if not found[2]:
            return drive, drive.raw
        starts = self._partitions(drive)
        if not 1 <= int(found[2]) <= len(starts):
            raise RuntimeError(f"{what}: {device}: No such file or directory")
        return drive, f"{drive.raw}?offset={starts[int(found[2]) - 1]}"

    def mke2fs(self, device, label=None):
        drive, path = self._find("mke2fs", device)
        if path != drive.raw:
            raise RuntimeError(f"not played: mke2fs of a partition, {device}")
        _run("mke2fs", "mke2fs", "-q", "-F", *(["-L", label] if label else []), path)

    def blkid(self, device):
        drive, path = self._find("blkid", device)
        if path != drive.raw:
            raise RuntimeError(f"not played: blkid of a partition, {device}")
        said = _run("blkid", "blkid", "-p", "-o", "export", drive.raw)
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    # A file system.

    def mount(self, mountable, mountpoint):
        if mountpoint != "/":
            raise RuntimeError(f"not played: mount at {mountpoint}")
        self._mount("mount", mountable, "ext2,ext3,ext4")

    def mount_ro(self, mountable, mountpoint):
        if mountpoint != "/":
            raise RuntimeError(f"not played: mount_ro at {mountpoint}")
        self._mount("mount_ro", mountable, "iso9660")

    def _mount(self, what, mountable, kinds):
        """Mounts what is a file system of one of these kinds."""
        drive, path = self._find(what, mountable)
        offset = path.removeprefix(drive.raw).removeprefix("?offset=") or "0"
        command = ["blkid", "-p", "-O", offset, "-n", kinds, drive.raw]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"{what}: mount exited with status 32: mount: /sysroot: wrong fs type, bad option, bad superblock on {mountable}, "
                "missing codepage or helper program, or other error."
            )
        self._mounted = (mountable, drive, path)

    def umount(self, pathordevice):
        if self._mounted is None or pathordevice not in ("/", self._mounted[0]):
            raise RuntimeError(f"umount: umount: {pathordevice}: not mounted.")
        self._mounted[1].write_back()
        self._mounted = None

    def shutdown(self):
        if self._mounted is not None:
            self.umount("/")
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    close = shutdown

    def __del__(self):
        self.shutdown()

    def _root(self, what):
        if self._mounted is None:
            raise RuntimeError(f"{what}: you must call 'mount' first to mount the root filesystem")
        return self._mounted[2]

    def _debugfs(self, what, commands):
        """Runs commands that change the file system."""
        path = self._root(what)
        if self._mounted[1].readonly:
            raise RuntimeError(f"{what}: Read-only file system")
        said = subprocess.run(
            ["debugfs", "-w", "-f", "-", path], input="\n".join(commands) + "\n", capture_output=True, text=True, check=False
        ).stderr
        # Its exit code tells nothing of them.
        for line in said.splitlines():
            if not HARMLESS.match(line):
                raise RuntimeError(f"{what}: {line}")

    @staticmethod
    def _attributes(path, kind, mode, uid, gid):
        return [f'sif "{path}" mode 0{kind | mode & 0o7777:o}', f'sif "{path}" uid {uid}', f'sif "{path}" gid {gid}']

    def _folders(self, path):
        """Commands that make a folder and those above it."""
        parts = [part for part in path.split("/") if part]
        return [f'mkdir "/{"/".join(parts[: number + 1])}"' for number in range(len(parts))]

    def mkdir_p(self, path):
        self._debugfs("mkdir_p", self._folders(path))

    def upload(self, filename, remotefilename):
        commands = [f'rm "{remotefilename}"', f'write "{filename}" "{remotefilename}"']
        self._debugfs("upload", commands + self._attributes(remotefilename, 0o100000, 0o644, 0, 0))

    def copy_out(self, remotepath, localdir):
        """Copies a file of a disc's into a folder."""
        path = self._root("copy_out")
        with tempfile.TemporaryDirectory() as folder:
            command = ["bsdtar", "-x", "-f", path, "-C", folder, remotepath.lstrip("/")]
            subprocess.run(command, capture_output=True, check=False)
            content = os.path.join(folder, remotepath.lstrip("/"))
            if not os.path.isfile(content):
                raise RuntimeError(f"'{remotepath}' is not a file or directory")
            shutil.copy2(content, localdir)

    def tar_in(self, tarfile_, directory, compress=None):
        """Unpacks an archive as tar does that root calls: each file is its owner's."""
        self._root("tar_in")
        mode = {None: "r:", "gzip": "r:gz", "bzip2": "r:bz2", "xz": "r:xz"}.get(compress)
        if mode is None:
            raise RuntimeError(f"tar_in: unknown compression type: {compress}")
        commands = []
        with tarfile.open(tarfile_, mode) as archive, tempfile.TemporaryDirectory() as folder:
            for number, member in enumerate(archive):
                path = "/" + os.path.normpath(f"{directory}/{member.name}").lstrip("/")
                if re.search(r'["\\\n]', path + member.linkname):
                    raise RuntimeError(f"not played: a file with the name {path!r}")
                if member.isdir():
                    if path != "/":
                        commands.append(f'mkdir "{path}"')
                    kind = 0o040000
                elif member.isfile():
                    content = os.path.join(folder, str(number))
                    with open(content, "wb") as file:
                        shutil.copyfileobj(archive.extractfile(member), file)
                    commands += [f'rm "{path}"', f'write "{content}" "{path}"']
                    kind = 0o100000
                elif member.issym():
                    commands += [f'rm "{path}"', f'symlink "{path}" "{member.linkname}"']
                    kind = 0o120000
                else:
                    raise RuntimeError(f"not played: {path} is neither file, folder nor symbolic link")
                commands += self._attributes(path, kind, member.mode, member.uid, member.gid)
            self._debugfs("tar_in", commands)

    def df(self):
        """As `df` prints it."""
        said = _run("df", "dumpe2fs", "-h", self._root("df"))
        value = lambda name: int(re.search(rf"^{name}:\s*(\d+)", said, re.MULTILINE)[1])
        block = value("Block size") // 1024
        size, free = value("Block count") * block, value("Free blocks") * block
        available = max(0, free - value("Reserved block count") * block)
        used = size - free
        percent = -(-100 * used // max(1, used + available))
        return (
            "Filesystem     1K-blocks  Used Available Use% Mounted on\n"
            f"{self._mounted[0]} {size} {used} {available} {percent}% /sysroot\n"
        )
