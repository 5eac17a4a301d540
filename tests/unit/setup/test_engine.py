"""Where the Pulumi engine comes from, and every way in which it cannot be had.

The command runs as the Makefile runs it, with a PATH of fake programs: no test builds or downloads an engine. A proxy
that refuses connections stands for a machine without internet.
"""

import ast
import errno
import fcntl
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap import go_modules
from airgap.engine import __main__ as command
from airgap.engine import build, installer, locate, setup
from infra.setup.problem import SetupError

ROOT = Path(__file__).resolve().parents[3]
VERSION = locate.dotted(locate.VERSION)

# Does what `go` does for a build, at once; GO_FAILS makes `go build` fail with that message, GO_HANGS makes it wait.
FAKE_GO = """#!/bin/sh
echo "$*" >> "$MACHINE/go.calls"
case "$1" in
env) case "$2" in GOVERSION) echo "${GO_VERSION:-go1.26.0}" ;; *) echo /tmp ;; esac ;;
version) echo "go version ${GO_VERSION:-go1.26.0} linux/amd64" ;;
list) echo some/package ;;
mod) echo "{\\"Dir\\": \\"$MACHINE/sdk\\"}" ;;
build)
    if [ -n "$GO_FAILS" ]; then echo "$GO_FAILS" >&2; exit 1; fi
    if [ -n "$GO_HANGS" ]; then echo $$ > "$MACHINE/go.pid"; exec /bin/sleep 300; fi
    while [ "$1" != -o ]; do shift; done
    printf '#!/bin/sh\\necho v%s\\n' VERSION > "$2"; /bin/chmod 755 "$2" ;;
esac
"""


class Machine:
    """A home, a cache and a PATH of fake programs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.cache = directory / "cache"
        self.engines = self.cache / "slipway" / "engine"
        self.engine = self.engines / VERSION
        self.bin.mkdir()
        for script in build.SCRIPTS:
            (directory / "sdk" / script).parent.mkdir(parents=True, exist_ok=True)
            (directory / "sdk" / script).write_text("#!/bin/sh\n")

    def program(self, name: str, script: str, directory: Path | None = None) -> None:
        """Put a program into a directory, the one on PATH by default."""
        path = (directory or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def pulumi(self, version: str, directory: Path | None = None, *, language_host: bool = True) -> None:
        """Put a `pulumi` of a version into a directory, with its language host and scripts."""
        self.program("pulumi", f"#!/bin/sh\necho {version}\n", directory)
        if language_host:
            for name in locate.PROGRAMS[1:]:
                self.program(name, "#!/bin/sh\n", directory)

    def go(self) -> None:
        """Put the fake `go` on PATH."""
        self.program("go", FAKE_GO.replace("VERSION > ", f"{VERSION} > "))

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "HOME": str(self.directory),
            "XDG_CACHE_HOME": str(self.cache),
            "MACHINE": str(self.directory),
            "https_proxy": "http://127.0.0.1:9",
            **more,
        }

    def start(self, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "airgap.engine"],
            cwd=ROOT,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **more: str) -> subprocess.CompletedProcess[str]:
        with self.start(**more) as process:
            out, err = process.communicate(timeout=180)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def leftovers(self) -> list[str]:
        """What is in the cache, but the lock."""
        return sorted(p.name for p in self.engines.iterdir() if p.name != ".lock") if self.engines.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("version", [f"v{VERSION}", "v3.260.0", "v4.0.0", "v3.300.1-alpha.1"])
def test_pulumi_on_path_is_used(machine: Machine, version: str) -> None:
    machine.pulumi(version)

    done = machine.run()

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{machine.bin}\n", "")
    assert not machine.cache.exists()


@pytest.mark.parametrize("version", ["v3.258.9", "v2.999.0", f"v{VERSION}-alpha.1"])
def test_older_pulumi_on_path_is_not_used(machine: Machine, version: str) -> None:
    machine.pulumi(version)
    machine.go()

    done = machine.run()

    assert done.stdout == f"{machine.engine}/bin\n"
    assert f"older than {VERSION}: not used" in done.stderr


def test_pulumi_without_python_is_not_used(machine: Machine) -> None:
    machine.pulumi("v3.260.0", language_host=False)

    assert "comes without pulumi-language-python: not used" in machine.run().stderr


def test_pulumi_that_does_not_run_is_not_used(machine: Machine) -> None:
    machine.program("pulumi", "#!/bin/sh\nexit 1\n")

    assert "does not answer `pulumi version`: not used" in machine.run().stderr


def test_engine_in_the_cache_is_used(machine: Machine) -> None:
    machine.pulumi(f"v{VERSION}", machine.engine / "bin")

    done = machine.run()

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{machine.engine}/bin\n", "")


def test_without_cache_setting_the_home_holds_the_cache(machine: Machine) -> None:
    engine = machine.directory / ".cache" / "slipway" / "engine" / VERSION
    machine.pulumi(f"v{VERSION}", engine / "bin")

    assert machine.run(XDG_CACHE_HOME="relative/path").stdout == f"{engine}/bin\n"


def test_engine_is_built_once(machine: Machine) -> None:
    machine.go()

    first = machine.run()
    calls = (machine.directory / "go.calls").read_text()
    second = machine.run()

    assert (first.returncode, first.stdout) == (0, f"{machine.engine}/bin\n")
    assert f"building Pulumi {VERSION} from its Go modules" in first.stderr
    assert sorted(p.name for p in (machine.engine / "bin").iterdir()) == sorted(locate.PROGRAMS)
    assert (machine.engine / locate.ORIGIN).read_text() == locate.FROM_MODULES
    assert machine.leftovers == [VERSION]
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert (machine.directory / "go.calls").read_text() == calls


def test_callers_go_settings_do_not_reach_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod -tags=other")
    monkeypatch.setenv("GOWORK", "/elsewhere/go.work")

    environment = go_modules.go_environment()

    assert environment["GOFLAGS"] == "-mod=readonly -trimpath -buildvcs=false"
    assert environment["GOWORK"] == "off"


def test_half_an_engine_is_replaced(machine: Machine) -> None:
    machine.pulumi(f"v{VERSION}", machine.engine / "bin")
    (machine.engine / "bin" / "pulumi-language-python").unlink()
    machine.go()

    assert machine.run().returncode == 0
    assert locate.complete(machine.engine)
    assert machine.leftovers == [VERSION]


def test_neither_internet_nor_go(machine: Machine) -> None:
    done = machine.run()

    assert (done.returncode, done.stdout) == (1, "")
    assert "the official installer is out of reach, and there is no Go to build one." in done.stderr
    assert f"install Pulumi {VERSION} or newer" in done.stderr
    assert "or Go 1.25.11 or newer (https://go.dev/dl/)" in done.stderr
    assert machine.leftovers == []


@pytest.mark.parametrize("version", ["go1.24.2", "go1.19.8", "go1.25.10", "go1.25"])
def test_go_is_too_old(machine: Machine, version: str) -> None:
    machine.go()

    done = machine.run(GO_VERSION=version)

    assert done.returncode == 1
    assert f"Go {version.removeprefix('go')}{'.0' if version == 'go1.25' else ''} is too old" in done.stderr
    assert f"where: {machine.bin}/go" in done.stderr


def test_go_that_refuses_the_module_is_too_old(machine: Machine) -> None:
    machine.program("go", '#!/bin/sh\n[ "$1" = version ] || exit 1\necho go version go1.19.8 linux/amd64\n')

    assert "Go 1.19.8 is too old" in machine.run().stderr


def test_full_disk_while_building(machine: Machine) -> None:
    machine.go()

    done = machine.run(GO_FAILS="write /tmp/x.a: no space left on device")

    assert done.returncode == 1
    assert "No space left on the disk while building the Pulumi engine." in done.stderr
    assert "GOCACHE /tmp (" in done.stderr
    assert "GiB free" in done.stderr
    assert machine.leftovers == []


def test_full_disk_while_copying(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    machine.go()
    enter(machine, monkeypatch)
    monkeypatch.setattr(shutil, "copyfile", full)

    assert setup.main([]) == 1
    assert "error: No space left on the disk." in capsys.readouterr().err
    assert machine.leftovers == []


def test_module_proxy_is_out_of_reach(machine: Machine) -> None:
    machine.go()

    done = machine.run(GO_FAILS="example.org/x@v1: Get https://proxy: dial tcp: lookup proxy: no such host")

    assert done.returncode == 1
    assert "The Go modules of the Pulumi engine cannot be fetched." in done.stderr
    assert "GOPROXY" in done.stderr


def test_other_failures_are_shown_in_gos_words(machine: Machine) -> None:
    machine.go()

    done = machine.run(GO_FAILS="verifying module: checksum mismatch")

    assert done.returncode == 1
    assert "The build of the Pulumi engine failed. go build -v said:" in done.stderr
    assert "    verifying module: checksum mismatch" in done.stderr


def test_much_output_of_go_does_not_stop_it(tmp_path: Path) -> None:
    # More than a pipe holds, on both streams.
    script = tmp_path / "go"
    script.write_text(
        f"#!{sys.executable} -S\nimport sys\n"
        "for i in range(40000):\n    print('package', i)\n    print('step', i, file=sys.stderr)\n"
    )
    script.chmod(0o755)
    steps: list[str] = []

    answer = build.ENGINE.run(str(script), tmp_path, ["list"], steps.append)

    assert (len(answer.splitlines()), len(steps)) == (40000, 40000)


def test_cache_is_a_file(machine: Machine) -> None:
    machine.cache.write_text("")

    done = machine.run()

    assert done.returncode == 1
    assert "A file is in the way of a directory." in done.stderr
    assert "set XDG_CACHE_HOME to a directory that you can write to" in done.stderr


def test_cache_cannot_be_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    enter(machine, monkeypatch)
    monkeypatch.setattr(Path, "mkdir", refuse)

    assert setup.main([]) == 1
    said = capsys.readouterr().err
    assert "error: No permission to write" in said
    assert f"where: {machine.engines}" in said
    assert "set XDG_CACHE_HOME to a directory that you can write to" in said


def test_killed_build_leaves_nothing_that_looks_like_an_engine(machine: Machine) -> None:
    machine.go()
    with machine.start(GO_HANGS="yes") as process:
        wait_for(lambda: (machine.directory / "go.pid").exists() and (machine.directory / "go.pid").read_text() != "")
        process.send_signal(signal.SIGKILL)
        os.kill(int((machine.directory / "go.pid").read_text()), signal.SIGKILL)

    assert not machine.engine.exists()
    assert len(machine.leftovers) == 1

    assert machine.run().returncode == 0
    assert machine.leftovers == [VERSION]


def test_second_set_up_waits_and_takes_the_firsts_engine(machine: Machine) -> None:
    machine.engines.mkdir(parents=True)
    with (machine.engines / ".lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with machine.start() as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "==> another set-up is at work (pid 4711): waiting for it\n"
            machine.pulumi(f"v{VERSION}", machine.engine / "bin")
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, _ = process.communicate(timeout=180)

    assert (process.returncode, out) == (0, f"{machine.engine}/bin\n")


def test_official_installer_comes_before_a_build(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Stands for a Python that has the SDK: its arguments are -c, the program, the root, the version.
    machine.program(
        "sdk-python",
        '#!/bin/sh\n/bin/mkdir -p "$3/bin"\n'
        f"for name in {' '.join(locate.PROGRAMS)}; do\n"
        '    printf "#!/bin/sh\\necho v%s\\n" "$4" > "$3/bin/$name"; /bin/chmod 755 "$3/bin/$name"\ndone\n',
    )
    machine.go()
    enter(machine, monkeypatch)
    monkeypatch.setattr(installer, "reachable", lambda: True)

    assert setup.main(["--sdk-python", str(machine.bin / "sdk-python")]) == 0
    assert capsys.readouterr().out == f"{machine.engine}/bin\n"
    assert (machine.engine / locate.ORIGIN).read_text() == locate.FROM_INSTALLER
    assert not (machine.directory / "go.calls").exists()


def test_official_installer_that_fails_is_followed_by_a_build(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.program("sdk-python", "#!/bin/sh\necho 'HTTP Error 500' >&2\nexit 1\n")
    machine.go()
    enter(machine, monkeypatch)
    monkeypatch.setattr(installer, "reachable", lambda: True)

    assert setup.main(["--sdk-python", str(machine.bin / "sdk-python")]) == 0
    assert "the official installer failed: HTTP Error 500" in capsys.readouterr().err
    assert (machine.engine / locate.ORIGIN).read_text() == locate.FROM_MODULES


def test_engine_that_answers_wrongly_is_not_kept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.go()
    enter(machine, monkeypatch)
    monkeypatch.setattr(locate, "complete", lambda engine: False)

    assert setup.main([]) == 1
    assert f"The new engine does not answer as Pulumi {VERSION}." in capsys.readouterr().err
    assert machine.leftovers == []


class Site(http.server.BaseHTTPRequestHandler):
    """Answers HEAD requests, or with `silent` set keeps them waiting."""

    silent = threading.Event()

    def do_HEAD(self) -> None:
        if self.silent.is_set():
            self.rfile.read(1)
            return
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Site.silent.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/install.sh"
    server.shutdown()
    thread.join()
    server.server_close()


def test_site_that_answers_is_reachable(site: str) -> None:
    assert installer.reachable(site, patience=60)


def test_site_that_keeps_silent_is_out_of_reach(site: str) -> None:
    Site.silent.set()

    assert not installer.reachable(site, patience=0.2)


def test_site_that_refuses_is_out_of_reach() -> None:
    assert not installer.reachable("http://127.0.0.1:9/", patience=10)


def test_old_python_gets_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))

    with pytest.raises(SystemExit) as stopped:
        command.check_python()
    assert str(stopped.value.code).startswith("error: Python 3.11 or newer is needed, and this is 3.8.\n")
    assert "apt-get install python3 python3-venv" in str(stopped.value.code)


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py"])
def test_what_an_old_python_reads_first_parses_there(name: str) -> None:
    source = (ROOT / "airgap" / "engine" / name).read_text()

    assert ast.parse(source, feature_version=(3, 6)).body


def test_one_version_everywhere() -> None:
    modules = (ROOT / "airgap/engine/pulumi/go.mod").read_text()

    assert f"pulumi=={VERSION}\n" in (ROOT / "requirements.in").read_text()
    assert f"github.com/pulumi/pulumi/pkg/v3 v{VERSION} " in modules
    assert f"github.com/pulumi/pulumi/sdk/v3 v{VERSION} " in modules
    assert f"Pulumi {VERSION} or newer" in (ROOT / "Makefile").read_text()


def test_problem_says_what_where_and_how() -> None:
    assert str(SetupError("It broke.", "/here", "mend it.")) == "It broke.\n  where: /here\n  mend:  mend it."


def enter(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process see the machine's environment."""
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)


def wait_for(condition: object, seconds: float = 120) -> None:
    """Wait until `condition()` holds."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
