"""The headers of a deterministic tar (POSIX.1-2017, pax: "ustar Interchange Format" and "pax Header Block").

Owners, groups and times are zero. A pax record is added only for a name or a link's target that is longer than 100
bytes or not ASCII, and for a size of 8 GiB or more. Written out here rather than with `tarfile`, whose bytes may change
with Python's version. Which entries there are, and their order, is the matter of whoever makes the tar.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

FILE = b"0"
LINK = b"2"
FOLDER = b"5"

_BLOCK = 512
END_BYTES = 2 * _BLOCK
"""A tar ends with so many null bytes."""

_NAME_BYTES = 100
_LARGEST_SIZE = 0o77777777777


def folders_of(path: str) -> Iterator[str]:
    """Every folder on the way to `path`, the outermost first."""
    position = path.find("/")
    while position >= 0:
        yield path[:position]
        position = path.find("/", position + 1)


def padded(size: int) -> int:
    """Bytes that a content of `size` bytes takes in a tar."""
    return -(-size // _BLOCK) * _BLOCK


def padding(size: int) -> bytes:
    """What follows a content of `size` bytes, up to the next block."""
    return bytes(-size % _BLOCK)


def tar_header(path: str, mode: int, size: int, kind: bytes, target: str = "") -> bytes:
    """The header blocks of one entry, with a pax header before them where ustar cannot hold its values.

    `path` of a folder ends with a slash; `target` is where a link leads."""
    name, link = path.encode(), target.encode()
    records = b""
    if _needs_record(path):
        records += _pax_record(b"path", name)
        name = path.encode("ascii", "replace")[:_NAME_BYTES]
    if _needs_record(target):
        records += _pax_record(b"linkpath", link)
        link = target.encode("ascii", "replace")[:_NAME_BYTES]
    if size > _LARGEST_SIZE:
        records += _pax_record(b"size", b"%d" % size)
        size = 0
    extended = b""
    if records:
        extended = _ustar(b"././@PaxHeader", 0o644, len(records), b"x") + records + padding(len(records))
    return extended + _ustar(name, mode, size, kind, link)


def _needs_record(text: str) -> bool:
    return not text.isascii() or len(text) > _NAME_BYTES


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, where the length counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if rest + len(str(length)) != length:
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(name: bytes, mode: int, size: int, kind: bytes, link: bytes = b"") -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % stat.S_IMODE(mode),
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        b"%011o\0" % size,
        b"00000000000\0",  # mtime
        b" " * 8,  # the checksum counts as spaces while it is computed
        kind,
        link.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(32),  # uname
        bytes(32),  # gname
        b"0000000\0",  # devmajor
        b"0000000\0",  # devminor
        bytes(155),  # prefix
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
