"""What LAVA asks of pyudev, answered by the ghosts' daemon instead of the kernel.

LAVA waits for boards on USB by udev (`lava_dispatcher/utils/udev.py`), and nothing but a driver
can make the kernel tell of a device. So this module stands where pyudev would be, in front of it on
Python's path: devices are the boards' peripherals as long as they are attached, events are their
coming and going, and the properties are those that udev gives (`ghost/src/peripheral.rs`).

It has what LAVA uses of pyudev 0.24 to 1.0 and no more; anything else is an AttributeError. What is plugged
into the machine that all this runs on is not to be seen.
"""
import collections.abc
import json
import os
import select
import socket

SOCKET = os.environ.get("GHOST_SOCKET", "/run/ghost/control.sock")


class DeviceNotFoundError(LookupError):
    pass


class DeviceNotFoundByFileError(DeviceNotFoundError):
    pass


def _line(connection):
    """One line, and not a byte more: `select` must see what comes behind it."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise OSError("the ghosts' daemon has gone")
        line += byte
    return bytes(line).strip()


def _watch():
    """A connection that tells of devices, and those that are there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(SOCKET)
    connection.sendall(b'{"do": "watch"}\n')
    error = json.loads(_line(connection)).get("error")
    if error:
        raise OSError(error)
    present = []
    for line in iter(lambda: _line(connection), b""):
        present.append(Device(json.loads(line)["properties"]))
    return connection, present


class Context:
    def list_devices(self, **kwargs):
        if kwargs:
            raise TypeError(f"not played: list_devices({', '.join(kwargs)})")
        connection, present = _watch()
        connection.close()
        return present


class Attributes:
    """What the device itself says, as sysfs has it."""

    NAMES = {
        "serial": "ID_SERIAL_SHORT",
        "idVendor": "ID_VENDOR_ID",
        "idProduct": "ID_MODEL_ID",
        "product": "ID_MODEL",
    }

    def __init__(self, properties):
        self._properties = properties

    def asstring(self, name):
        return self._properties[self.NAMES[name]]


class Device(collections.abc.Mapping):
    def __init__(self, properties, action=None, source="udev"):
        self.attributes = Attributes(properties)
        # The kernel's own event has nothing of what udev looks up.
        own = lambda name: source == "udev" or not name.startswith(("ID_", "DEVLINKS"))
        self.properties = {name: value for name, value in properties.items() if own(name)}
        if action:
            self.properties["ACTION"] = action
        self.action = action
        self.subsystem = properties.get("SUBSYSTEM")
        self.device_type = properties.get("DEVTYPE")
        self.device_node = properties.get("DEVNAME")
        self.device_path = properties.get("DEVPATH")
        self.device_links = iter(properties.get("DEVLINKS", "").split())
        self.children = iter(())

    def __getitem__(self, name):
        return self.properties[name]

    def __iter__(self):
        return iter(self.properties)

    def __len__(self):
        return len(self.properties)


class Devices:
    @staticmethod
    def from_device_file(context, filename):
        for device in context.list_devices():
            if device.device_node == filename:
                return device
        raise DeviceNotFoundByFileError(filename)


class Monitor:
    def __init__(self, source):
        self._source = source
        self._filters = []
        self._connection = None

    @classmethod
    def from_netlink(cls, context, source="udev"):
        if source not in ("udev", "kernel"):
            raise ValueError(f"Invalid source: {source!r}. Must be one of 'udev' or 'kernel'")
        return cls(source)

    def filter_by(self, subsystem, device_type=None):
        self._filters.append((subsystem, device_type))

    def start(self):
        if self._connection is None:
            self._connection, _ = _watch()

    def fileno(self):
        self.start()
        return self._connection.fileno()

    def _wanted(self, device):
        return not self._filters or any(
            device.subsystem == subsystem and kind in (None, device.device_type)
            for subsystem, kind in self._filters
        )

    def poll(self, timeout=None):
        """The next event; None when none came within so many seconds."""
        self.start()
        while select.select([self._connection], [], [], timeout)[0]:
            told = json.loads(_line(self._connection))
            device = Device(told["properties"], told["action"], self._source)
            if self._wanted(device):
                return device
        return None
