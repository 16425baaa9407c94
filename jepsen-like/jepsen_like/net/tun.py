"""The TUN device of a machine, whose other end goes to the switch."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import subprocess
from shutil import which

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 1, 0x1000
#: Large packets are fewer, and nothing on the way has a smaller limit.
_MTU = 16_000


def make_device(name: str, address: str, switch: str) -> None:
    """In the namespace of this process.  ``switch``: its socket."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", b"jl0", _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
        for words in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{address}/16", "dev", "jl0"],
            ["link", "set", "jl0", "mtu", str(_MTU), "up"],
        ):
            subprocess.run([which("ip") or "ip", *words], check=True, capture_output=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [device]))
            sock.sendmsg([f"{name} {address}".encode()], [rights], 0, switch)
    finally:
        os.close(device)
