"""Builds programs from Go modules, with nothing but Go and a module proxy.

Each set of programs has a module of its own in this folder, whose go.mod and go.sum pin every version and checksum;
nothing is looked up. What is built, and where it goes, is the caller's. Standard library only: this runs before
anything is installed.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.setup.problem import SetupError, free_space, say

OLDEST_GO = (1, 25, 11)


def dotted(numbers: tuple[int, ...]) -> str:
    """`(3, 259, 0)` as `3.259.0`."""
    return ".".join(str(n) for n in numbers)


@dataclass(frozen=True)
class Program:
    """One program to build: its name, the directory of the module that pins it, its package, its linker flags."""

    name: str
    module: Path
    package: str
    ldflags: str = "-s -w"


def go_environment() -> dict[str, str]:
    """The caller's environment, without what would change the build: flags, workspaces, vendoring, a C compiler."""
    return {
        **os.environ,
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
        # The checksums are in go.sum already: no question to sum.golang.org, which may be out of reach.
        "GONOSUMDB": "*",
    }


@dataclass(frozen=True)
class Build:
    """What is built, in the words of its error messages."""

    what: str
    """What the programs make up: `the Pulumi engine`."""
    space: str
    """What the build takes."""
    reason: str
    """Why it is built here at all: what was not to be had otherwise."""
    otherwise: str
    """How to do without the build."""

    def find_go(self, module: Path) -> str:
        """The `go` on PATH, checked to be new enough.

        It is asked inside `module`: a Go that fetches newer toolchains by itself (GOTOOLCHAIN=auto) answers as the
        newer one there. Raises SetupError where there is none, or only an older one.
        """
        install = f"{self.otherwise} or Go {dotted(OLDEST_GO)} or newer (https://go.dev/dl/), and put it on PATH."
        go = shutil.which("go")
        if go is None:
            raise SetupError(f"{self.reason}, and there is no Go to build one.", "PATH", install)
        version = _go_version(go, module, ["env", "GOVERSION"])
        if version is not None and version >= OLDEST_GO:
            return go
        older = version or _go_version(go, module, ["version"])
        named = f"Go {dotted(older)} is too old" if older else "this Go does not tell its version"
        raise SetupError(f"{self.reason}, and {named} to build one.", go, install)

    def fetch(self, go: str, program: Program, step: str) -> int:
        """Download the modules that `program` needs, and count its packages."""
        progress = _Progress(f"{step}: modules downloaded", every=50)
        listed = self.run(
            go, program.module, ["list", "-deps", program.package], lambda line: progress.count("downloading" in line)
        )
        return len(listed.splitlines())

    def compile(self, go: str, program: Program, step: str, target: Path, packages: int) -> None:
        """Compile and link `program` into the folder `target`."""
        # `go build -v` names each package as it is compiled; those compiled before are not named.
        progress = _Progress(f"{step}: packages compiled, of {packages} at most", every=max(packages // 10, 1))
        output = str(target / program.name)
        arguments = ["build", "-v", "-ldflags", program.ldflags, "-o", output, program.package]
        self.run(go, program.module, arguments, lambda line: progress.count(" " not in line))

    def run(self, go: str, module: Path, arguments: list[str], on_progress: Callable[[str], None]) -> str:
        """Run `go` in `module`; each line of its stderr goes to `on_progress`. Returns stdout. Raises SetupError."""
        last: deque[str] = deque(maxlen=12)
        # A file for stdout: a pipe that nobody empties while stderr is read would stop `go`.
        with (
            tempfile.TemporaryFile("w+") as answer,
            subprocess.Popen(
                [go, *arguments],
                cwd=module,
                env=go_environment(),
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            for line in process.stderr or ():
                last.append(line.rstrip())
                on_progress(line.strip())
            code = process.wait()
            answer.seek(0)
            said = answer.read()
        if code != 0:
            raise self._explain(go, module, arguments, list(last))
        return said

    def _explain(self, go: str, module: Path, arguments: list[str], lines: list[str]) -> SetupError:
        """What a failed `go` means: a full disk, a proxy out of reach, or its own words."""
        command = " ".join(["go", *arguments[:2]])
        text = "\n".join(lines)
        said = "\n".join(f"    {line}" for line in lines[-6:])
        if "no space left on device" in text or "disk quota exceeded" in text:
            return SetupError(
                f"No space left on the disk while building {self.what}.",
                _places(go),
                f"free some space ({self.space}) or point GOCACHE, GOMODCACHE and GOTMPDIR elsewhere; "
                "then run the same command again: it goes on where it stopped.",
            )
        if "permission denied" in text:
            return SetupError(
                f"No permission to write while building {self.what}. {command} said:\n{said}",
                _places(go),
                "give yourself the right to write there, or point GOCACHE, GOMODCACHE and GOTMPDIR elsewhere.",
            )
        if re.search(r"dial tcp|no such host|proxyconnect|module lookup disabled|\b(403|404|410|50\d) ", text):
            return SetupError(
                f"The Go modules of {self.what} cannot be fetched. {command} said:\n{said}",
                f"GOPROXY={_ask(go, 'GOPROXY')}",
                f"name a Go module proxy that can be reached in GOPROXY, or {self.otherwise}.",
            )
        return SetupError(
            f"The build of {self.what} failed. {command} said:\n{said}",
            str(module),
            f"run it again; should it fail again, {self.otherwise}.",
        )


def _go_version(go: str, module: Path, arguments: list[str]) -> tuple[int, ...] | None:
    """What `go` answers for its version, as `(1, 25, 11)`; None where it answers none."""
    try:
        done = subprocess.run(
            [go, *arguments],
            cwd=module,
            env=go_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(n or 0) for n in match.groups()) if match else None


class _Progress:
    """Counts what a step did, and says so now and then."""

    def __init__(self, what: str, every: int) -> None:
        self.what, self.every, self.done = what, every, 0

    def count(self, more: bool) -> None:
        """Add one, if `more`."""
        if more:
            self.done += 1
            if self.done % self.every == 0:
                say(f"  {self.what}: {self.done}")


def _ask(go: str, variable: str) -> str:
    """A setting of Go's, as `go env` tells it; empty where it does not."""
    done = subprocess.run([go, "env", variable], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _places(go: str) -> str:
    """Where a build writes, with the space that is left there."""
    temporary = _ask(go, "GOTMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - only named
    named = {"GOCACHE": _ask(go, "GOCACHE"), "GOMODCACHE": _ask(go, "GOMODCACHE"), "temporary files": temporary}
    return ", ".join(
        f"{name} {path} ({free_space(Path(path))})" for name, path in named.items() if path.startswith("/")
    )
