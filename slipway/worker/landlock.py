"""Landlock by its three system calls, which libc does not wrap: what this thread and its children may open.

Source: Linux `include/uapi/linux/landlock.h` and Documentation/userspace-api/landlock.rst. Each ABI added rights; a
ruleset that names a right the kernel does not know is refused, so it is built from the ABI that the kernel reports.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
_REMOVE_AND_MAKE = ((1 << 13) - 1) & ~0xF  # bits 4 to 12: remove and make of every kind
REFER = 1 << 13  # ABI 2: link or rename from one folder to another
TRUNCATE = 1 << 14  # ABI 3
IOCTL_DEV = 1 << 15  # ABI 5

SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0  # ABI 6
SCOPE_SIGNAL = 1 << 1  # ABI 6

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
WRITE = READ | WRITE_FILE | TRUNCATE | REFER | _REMOVE_AND_MAKE
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV

_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The ABI of this kernel; 0 where it has no Landlock or does not let us use it."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    except OSError:
        return 0


def rights_of(abi: int) -> int:
    """Every right over files that a kernel of this ABI can withhold."""
    rights = EXECUTE | WRITE_FILE | READ | _REMOVE_AND_MAKE
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        if abi >= since:
            rights |= right
    return rights


def restrict(grants: Iterable[tuple[str, int]], *, abi: int) -> None:
    """From here on only `grants` (path, rights) are open to this thread and to whom it starts. There is no way back.

    Before: `no_new_privs` is set. From ABI 6 on also no signal and no abstract Unix socket reaches a process
    outside. Raises OSError where a path cannot be opened or the kernel refuses.
    """
    handled = rights_of(abi)
    scopes = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= 6 else 0
    attributes = struct.pack("<QQQ", handled, 0, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path, rights in grants:
            _grant(ruleset, path, rights & handled)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _grant(ruleset: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        beneath = struct.pack("<Qi", rights, fd)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), beneath, ctypes.c_uint32(0))
    finally:
        os.close(fd)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
