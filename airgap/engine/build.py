"""Builds the engine from Go modules, with nothing but Go and a module proxy.

Two modules of our own pin it: `pulumi/` for the engine, `language_host/` for the Python language host. The language
host of this engine version is a Go module that some proxies do not serve; the last SDK that still holds one is
3.70.0, and it works with today's engine and SDK (what it does not know: `runtime.options.virtualenv`, plugins with
`runtime: python` in PulumiPlugin.yaml, Python policy packs). Its two helper scripts come from the SDK of the engine's
own version, out of the module cache. go.sum holds the checksum of everything; nothing is looked up.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airgap.engine.locate import VERSION, dotted
from infra.setup.problem import SetupError, free_space, say

HERE = Path(__file__).resolve().parent
OLDEST_GO = (1, 25, 11)
SPACE = "the build takes about 4 GiB for Go's caches and 150 MiB for the engine"
SCRIPTS = ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-resource-pulumi-python")
SDK = "github.com/pulumi/pulumi/sdk/v3"


@dataclass(frozen=True)
class Program:
    """One program to build: its name, the directory of the module that pins it, its package, its linker flags."""

    name: str
    module: Path
    package: str
    ldflags: str


PULUMI = Program(
    "pulumi",
    HERE / "pulumi",
    "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    f"-s -w -X {SDK}/go/common/version.Version=v{dotted(VERSION)}",
)
LANGUAGE_HOST = Program(
    "pulumi-language-python",
    HERE / "language_host",
    f"{SDK}/python/cmd/pulumi-language-python",
    f"-s -w -X {SDK}/go/common/version.Version=v{dotted(VERSION)}",
)


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


def find_go() -> str:
    """The `go` on PATH, checked to be new enough.

    It is asked inside the module: a Go that fetches newer toolchains by itself (GOTOOLCHAIN=auto) answers as the newer
    one there. Raises SetupError where there is none, or only an older one.
    """
    install = (
        f"install Pulumi {dotted(VERSION)} or newer (https://www.pulumi.com/docs/install/) "
        f"or Go {dotted(OLDEST_GO)} or newer (https://go.dev/dl/), and put it on PATH."
    )
    offline = "No Pulumi engine on PATH, the official installer is out of reach"
    go = shutil.which("go")
    if go is None:
        raise SetupError(f"{offline}, and there is no Go to build one.", "PATH", install)
    version = go_version(go, ["env", "GOVERSION"])
    if version is not None and version >= OLDEST_GO:
        return go
    older = version or go_version(go, ["version"])
    named = f"Go {dotted(older)} is too old" if older else "this Go does not tell its version"
    raise SetupError(f"{offline}, and {named} to build one.", go, install)


def go_version(go: str, arguments: list[str]) -> tuple[int, ...] | None:
    """What `go` answers for its version, as `(1, 25, 11)`; None where it answers none."""
    try:
        done = subprocess.run(
            [go, *arguments],
            cwd=PULUMI.module,
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


def build(target: Path) -> None:
    """Build the engine into `target`. Raises SetupError."""
    go = find_go()
    say(f"building Pulumi {dotted(VERSION)} from its Go modules, once: about 5 minutes on 2 cores")
    target.mkdir(exist_ok=True)
    for number, program in enumerate((PULUMI, LANGUAGE_HOST), start=1):
        step = f"{number}/2 {program.name}"
        packages = fetch(go, program, step)
        compile_program(go, program, step, target, packages)
    copy_scripts(go, target)


def fetch(go: str, program: Program, step: str) -> int:
    """Download the modules that `program` needs, and count its packages."""
    progress = Progress(f"{step}: modules downloaded", every=50)
    listed = run(
        go, program.module, ["list", "-deps", program.package], lambda line: progress.count("downloading" in line)
    )
    return len(listed.splitlines())


def compile_program(go: str, program: Program, step: str, target: Path, packages: int) -> None:
    """Compile and link `program` into `target`."""
    # `go build -v` names each package as it is compiled; those compiled before are not named.
    progress = Progress(f"{step}: packages compiled, of {packages} at most", every=max(packages // 10, 1))
    output = str(target / program.name)
    arguments = ["build", "-v", "-ldflags", program.ldflags, "-o", output, program.package]
    run(go, program.module, arguments, lambda line: progress.count(" " not in line))


def copy_scripts(go: str, target: Path) -> None:
    """Copy the language host's helper scripts out of the SDK's module, whose checksum is in go.sum."""
    module = json.loads(run(go, PULUMI.module, ["mod", "download", "-json", SDK], lambda _: None))
    for script in SCRIPTS:
        copy = target / Path(script).name
        shutil.copyfile(Path(module["Dir"], script), copy)
        copy.chmod(0o755)


class Progress:
    """Counts what a step did, and says so now and then."""

    def __init__(self, what: str, every: int) -> None:
        self.what, self.every, self.done = what, every, 0

    def count(self, more: bool) -> None:
        """Add one, if `more`."""
        if more:
            self.done += 1
            if self.done % self.every == 0:
                say(f"  {self.what}: {self.done}")


def run(go: str, module: Path, arguments: list[str], on_progress: Callable[[str], None]) -> str:
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
        raise explain(go, arguments, list(last))
    return said


def explain(go: str, arguments: list[str], lines: list[str]) -> SetupError:
    """What a failed `go` means: a full disk, a proxy out of reach, or its own words."""
    command = " ".join(["go", *arguments[:2]])
    text = "\n".join(lines)
    said = "\n".join(f"    {line}" for line in lines[-6:])
    if "no space left on device" in text or "disk quota exceeded" in text:
        return SetupError(
            "No space left on the disk while building the Pulumi engine.",
            places(go),
            f"free some space ({SPACE}) or point GOCACHE, GOMODCACHE and GOTMPDIR elsewhere; "
            "then run the same command again: it goes on where it stopped.",
        )
    if "permission denied" in text:
        return SetupError(
            f"No permission to write while building the Pulumi engine. {command} said:\n{said}",
            places(go),
            "give yourself the right to write there, or point GOCACHE, GOMODCACHE and GOTMPDIR elsewhere.",
        )
    if re.search(r"dial tcp|no such host|proxyconnect|module lookup disabled|\b(403|404|410|50\d) ", text):
        return SetupError(
            f"The Go modules of the Pulumi engine cannot be fetched. {command} said:\n{said}",
            f"GOPROXY={ask(go, 'GOPROXY')}",
            "name a Go module proxy that can be reached in GOPROXY, or put a `pulumi` "
            f"{dotted(VERSION)} or newer on PATH.",
        )
    return SetupError(
        f"The build of the Pulumi engine failed. {command} said:\n{said}",
        str(HERE),
        f"run it again; should it fail again, put a `pulumi` {dotted(VERSION)} or newer on PATH.",
    )


def ask(go: str, variable: str) -> str:
    """A setting of Go's, as `go env` tells it; empty where it does not."""
    done = subprocess.run([go, "env", variable], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def places(go: str) -> str:
    """Where a build writes, with the space that is left there."""
    temporary = ask(go, "GOTMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - only named
    named = {"GOCACHE": ask(go, "GOCACHE"), "GOMODCACHE": ask(go, "GOMODCACHE"), "temporary files": temporary}
    return ", ".join(
        f"{name} {path} ({free_space(Path(path))})" for name, path in named.items() if path.startswith("/")
    )
