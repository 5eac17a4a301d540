"""Lists the regular files that a path holds, in a fixed order, and refuses what cannot be packed faithfully.

Links: one that leads to a file or folder inside the root is stored as what it leads to, so that a tree means the same
wherever it is unpacked and a layer holds nothing but regular files; one that leads outside, to nothing, or round in a
circle is an error. The root itself may be a link; the name it was given by is kept. Empty folders are no content.

What the files hold is read elsewhere (`source`, `layer`).
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from provider.content.errors import ContentError

_SHOWN_PROBLEMS = 5
_WHITEOUT = ".wh."  # OCI image specification, layer.md, "Whiteouts"

Signature = tuple[int, int, int, int, int, int]
"""Device, inode, size (bytes), mtime (ns), ctime (ns) and mode of a file."""

Ignore = Callable[[str, bool], bool]
"""Whether to leave out the relative POSIX path; the second argument says whether it is a folder."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def signature_of(status: os.stat_result) -> Signature:
    """What tells that a file is still the same one with the same content, as far as the file system can tell."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One regular file of a tree."""

    path: str
    """Relative to the root, POSIX; the file's own name where the root is a file."""
    source: str
    """Where to open it."""
    signature: Signature

    @property
    def size(self) -> int:
        """Bytes."""
        return self.signature[2]

    @property
    def executable(self) -> bool:
        """Whether its owner may execute it: the only mode bit that is content."""
        return bool(self.signature[5] & stat.S_IXUSR)


@dataclass(frozen=True)
class Tree:
    """The regular files of a path, sorted by the bytes of their relative paths."""

    root: Path
    """Absolute, as it was given (links not resolved)."""
    is_folder: bool
    files: tuple[TreeFile, ...]
    walked_ns: int
    """When the walk began (ns since the epoch)."""

    @property
    def name(self) -> str:
        """The base name of the root."""
        return self.root.name

    @cached_property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def newest_ns(self) -> int:
        """The latest change of any file (ns since the epoch), by content or by inode."""
        return max(max(file.signature[3], file.signature[4]) for file in self.files)

    @cached_property
    def signature(self) -> str:
        """A digest over the paths and signatures of all files; it changes when any of them does."""
        digest = hashlib.sha256(b"folder" if self.is_folder else b"file")
        for file in self.files:
            digest.update(f"\0{file.path}\0{file.signature}".encode())
        return digest.hexdigest()


def walk(path: Path, ignore: Ignore | None = None) -> Tree:
    """Lists the files of `path` (a file, or a folder with everything below it).

    Raises `ContentError` with every mistake found, by name: missing, empty, unreadable, dangling or escaping links,
    special files, names that are not UTF-8.
    """
    walked_ns = time.time_ns()
    root = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would replace a link's name with its target's
    walker = _Walker(root, ignore)
    is_folder = walker.run()
    if walker.problems:
        raise ContentError(_told(root, walker.problems))
    if not walker.files:
        raise ContentError(f"{_shown(root)} is a folder without a file; put the files into it, or name another path")
    files = tuple(sorted(walker.files, key=lambda file: file.path.encode()))
    return Tree(root, is_folder, files, walked_ns)


def _told(root: Path, problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    shown = problems[:_SHOWN_PROBLEMS]
    more = len(problems) - len(shown)
    rest = [f"and {more} more"] if more else []
    return f"{_shown(root)} has {len(problems)} problems: " + "; ".join(shown + rest)


def _shown(path: str | Path) -> str:
    """`path` for a message: what is not UTF-8, or would break the line, is escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _Walker:
    """One walk: the files found and the problems met."""

    def __init__(self, root: Path, ignore: Ignore | None) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._ignore = ignore
        self.files: list[TreeFile] = []
        self.problems: list[str] = []

    def run(self) -> bool:
        """Walks; returns whether the root is a folder."""
        try:
            status = self._root.stat()
        except OSError as error:
            self.problems.append(self._why_not(self._root, error))
            return False
        is_folder = stat.S_ISDIR(status.st_mode)
        if not self._root.name:
            self.problems.append("/ has no name of its own, which a model or a code folder needs; name a folder in it")
        elif not self._can_be_named(self._root.name, str(self._root)):
            pass
        elif is_folder:
            self._folder(str(self._root), "", ((status.st_dev, status.st_ino),))
        else:
            self._add(str(self._root), self._root.name, status)
        return is_folder

    def _folder(self, folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        """`above`: device and inode of the folder and of those it was reached through."""
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            self.problems.append(self._why_not(folder, error))
            return
        for entry in entries:
            self._entry(entry, prefix, above)

    def _entry(self, entry: os.DirEntry[str], prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        path = prefix + entry.name
        try:
            if self._ignore is not None and self._ignore(path, entry.is_dir()):
                return
            if not self._can_be_named(entry.name, entry.path):
                return
            if entry.is_symlink() and not self._stays_inside(entry.path):
                return
            status = os.stat(entry.path)  # noqa: PTH116 - the entry's own stat() may be older than its link
        except OSError as error:
            self.problems.append(self._why_not(entry.path, error))
            return
        if stat.S_ISDIR(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                self.problems.append(f"the link {_shown(entry.path)} leads back into its own folder; remove it")
            else:
                self._folder(entry.path, path + "/", (*above, identity))
        else:
            self._add(entry.path, path, status)

    def _stays_inside(self, link: str) -> bool:
        try:
            target = os.path.realpath(link, strict=True)
        except OSError as error:
            self.problems.append(self._why_not(link, error))
            return False
        if os.path.commonpath((target, self._real_root)) == self._real_root:
            return True
        self.problems.append(
            f"the link {_shown(link)} leads outside, to {_shown(target)}; "
            f"put the file itself in its place, or name the folder that holds both"
        )
        return False

    def _add(self, source: str, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
            self.problems.append(f"{_shown(source)} is {kind}; only regular files can be stored: move it elsewhere")
        elif not os.access(source, os.R_OK):
            self.problems.append(_unreadable(source))
        else:
            self.files.append(TreeFile(path, source, signature_of(status)))

    def _can_be_named(self, name: str, path: str) -> bool:
        if not _is_utf8(name):
            self.problems.append(f"the name of {_shown(path)} is not UTF-8; rename it")
            return False
        if name.startswith(_WHITEOUT):
            self.problems.append(
                f"the name of {_shown(path)} begins with {_WHITEOUT}, which deletes files in an image; rename it"
            )
            return False
        return True

    def _why_not(self, path: str | Path, error: OSError) -> str:
        if isinstance(error, PermissionError):
            return _unreadable(path)
        if os.path.islink(path):  # noqa: PTH114
            target = _shown(os.readlink(path))  # noqa: PTH115
            if isinstance(error, FileNotFoundError):
                return f"the link {_shown(path)} leads to {target}, which is missing; mend or remove the link"
            return f"the link {_shown(path)} to {target} cannot be followed ({error.strerror}); mend or remove it"
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"{_shown(path)} is missing; create it, or correct the path"
        return f"{_shown(path)} cannot be read: {error.strerror}"


def _unreadable(path: str | Path) -> str:
    return f"{_shown(path)} is not readable for user id {os.geteuid()}; grant the right with chmod or chown"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
