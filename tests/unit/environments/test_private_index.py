"""A package index behind a password: used through uv's own settings, and never seen in what Slipway writes or says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provider import environments
from provider.content.errors import ContentError
from provider.content.watch import Watch
from provider.credentials import has_credentials, index_secrets, redacted
from provider.images.environment import environment_layer
from provider.python_environment import PythonEnvironment
from provider.resource import ResourceError
from provider.values import Properties
from tests.operations import Lines, context

USER, PASSWORD = "deployer", "s3cr3t%2Fword"
DECODED = "s3cr3t/word"
FILE = "gamma-1.0-py3-none-any.whl"
RESOURCE = PythonEnvironment()


class Index(BaseHTTPRequestHandler):
    """A simple repository (PEP 503) with one package, for whoever knows the password."""

    wheel: bytes

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"{USER}:{DECODED}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self._answer(401, b"who are you?")
        elif self.path == "/simple/gamma/":
            self._answer(200, f'<a href="/files/{FILE}">{FILE}</a>'.encode(), "text/html")
        elif self.path == f"/files/{FILE}":
            self._answer(200, self.wheel)
        else:
            self._answer(404, b"nothing")

    do_HEAD = do_GET  # noqa: N815 - the base class's naming

    def _answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class's name


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port of the index."""
    path = tmp_path / FILE
    with zipfile.ZipFile(path, "w") as wheel:
        info = "gamma-1.0.dist-info"
        wheel.writestr("gamma.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: gamma\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"gamma.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    Index.wheel = path.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def inputs(folder: Path, *requirements: str) -> Properties:
    return {
        "workspace": str(folder / "stack" / "home"),
        "requirements": list(requirements),
        "lockFile": str(folder / "lock.txt"),
    }


def made(folder: Path, log: Lines, *requirements: str) -> Properties:
    where = context("slipway:index:PythonEnvironment", "env", log=log)
    news, failures = asyncio.run(RESOURCE.check(where, inputs(folder, *requirements)))
    assert failures == []
    return asyncio.run(RESOURCE.create(where, news))[1]


@pytest.mark.parametrize("way", ["address", "settings", "netrc"])
def test_nothing_of_the_credentials_is_kept(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "address":
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{USER}:{PASSWORD}@{address}/simple")
    elif way == "settings":
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"corp=http://{address}/simple")
        monkeypatch.setenv("UV_INDEX_CORP_USERNAME", USER)
        monkeypatch.setenv("UV_INDEX_CORP_PASSWORD", DECODED)
    else:
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {DECODED}\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{address}/simple")
    log = Lines()

    state = made(tmp_path, log, "gamma")

    assert state["packages"] == {"gamma": "1.0"}
    assert_nothing_is_kept(tmp_path, state, log)


def assert_nothing_is_kept(folder: Path, state: Properties, log: Lines) -> None:
    """Neither the lock nor the environment, the state or what was said holds any of the credentials."""
    environment = Path(state["python"]).parents[1]
    files = [path for path in environment.rglob("*") if path.is_file() and not path.is_symlink()]
    texts = [path.read_bytes() for path in (folder / "lock.txt", *files)]
    for secret in (USER, PASSWORD, DECODED):
        assert secret not in f"{state} {log.said}"
        assert not [text for text in texts if secret.encode() in text]


@pytest.mark.parametrize("by_address", [False, True])
def test_the_layer_of_an_image_holds_no_credentials(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, by_address: bool
) -> None:
    if by_address:
        monkeypatch.setenv("ACCESS", f"{USER}:{PASSWORD}@")
        monkeypatch.setenv("UV_NO_INDEX", "1")
        digest = hashlib.sha256(Index.wheel).hexdigest()
        lock = f"gamma @ http://${{ACCESS}}{address}/files/{FILE} --hash=sha256:{digest}\n"
    else:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{USER}:{PASSWORD}@{address}/simple")
        made(tmp_path, Lines(), "gamma")
        lock = (tmp_path / "lock.txt").read_text()
    log = Lines()

    layer = environment_layer(lock, "linux/amd64", "3.11", Watch(log.said.append), tmp_path / "layers")

    content = layer.path.read_bytes()
    assert b"gamma.py" in content
    for secret in (USER, PASSWORD, DECODED):
        assert secret.encode() not in content
        assert secret not in f"{lock} {log.said}"


def test_a_layer_that_cannot_be_made_shows_no_credentials(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{USER}:wr0ng@{address}/simple?sig=signature")

    with pytest.raises(ContentError) as caught:
        environment_layer(
            f"gamma==1.0 --hash=sha256:{'0' * 64}\n", "linux/amd64", "3.11", directory=tmp_path / "layers"
        )

    assert "gamma" in str(caught.value)
    for secret in (USER, "wr0ng", "signature"):
        assert secret not in str(caught.value)


def test_an_error_of_the_resolver_shows_no_credentials(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{USER}:wr0ng@{address}/simple?sig=signature")

    with pytest.raises(ResourceError) as caught:
        made(tmp_path, Lines(), "gamma")

    assert "gamma" in str(caught.value)
    for secret in (USER, "wr0ng", "signature"):
        assert secret not in str(caught.value)


def test_credentials_in_a_requirement_are_refused_before_they_are_written(tmp_path: Path) -> None:
    where = context("slipway:index:PythonEnvironment", "env", preview=True)

    news, failures = asyncio.run(
        RESOURCE.check(where, inputs(tmp_path, "numpy", "mine @ https://me:word@host/mine-1.0-py3-none-any.whl"))
    )

    assert [(failure.property, failure.reason) for failure in failures] == [
        (
            "requirements[1]",
            "holds credentials, which the lock and the state would show; set the index in uv's own settings "
            "(UV_INDEX, netrc)",
        )
    ]
    assert "word" not in str(news)


def test_a_variable_in_an_address_stays_one(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESS", f"{USER}:{PASSWORD}@")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    log = Lines()

    state = made(tmp_path, log, f"gamma @ http://${{ACCESS}}{address}/files/{FILE}")

    assert_nothing_is_kept(tmp_path, state, log)


def test_a_lock_with_credentials_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(*arguments: str, text: str | None = None) -> str:
        return f"gamma @ http://{USER}:{PASSWORD}@host/files/{FILE}\n"

    monkeypatch.setattr(environments, "run_uv", resolved)
    with pytest.raises(ResourceError) as caught:
        made(tmp_path, Lines(), "needs-gamma")

    assert str(caught.value) == (
        "environment env: its lock would hold credentials, in the address of a package; "
        "set the index in uv's own settings (UV_INDEX, netrc), and name the package without an address"
    )
    assert not (tmp_path / "lock.txt").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://me:p@ss@host/simple: no", "at https://****@host/simple: no"),
        ("at https://token@host:8080", "at https://****@host:8080"),
        ("(https://host/a?sig=abc&x=1)", "(https://host/a?****)"),
        ("https://host/a, me@example.com", "https://host/a, me@example.com"),
        ("numpy @ https://host/x.whl", "numpy @ https://host/x.whl"),
    ],
)
def test_what_is_left_of_an_address(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert has_credentials(shown.replace("****@", "")) is False


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mine @ https://account.blob.host/mine.whl?sv=2024&sig=abc%3D", True),
        ("mine @ https://bucket.host/mine.whl?X-Amz-Signature=abc", True),
        ("https://host/get?access_token=abc", True),
        ("https://host/get?version=1&signed", False),
        ("numpy @ https://host/numpy.whl#sha256=abc", False),
        ("pip --token=x", False),
    ],
)
def test_a_signed_address_is_one_with_credentials(text: str, found: bool) -> None:
    assert has_credentials(text) is found


def test_the_secrets_of_the_settings() -> None:
    secrets = index_secrets(
        {
            "UV_INDEX": "corp=https://me:p%2Fw0rd@host/simple",
            "UV_INDEX_CORP_PASSWORD": "other",
            "PIP_EXTRA_INDEX_URL": "https://token@host",
            "HOME": "/home/somebody",
        }
    )
    assert secrets == {"p%2Fw0rd", "p/w0rd", "other", "token"}
    assert redacted("user other, p/w0rd", secrets) == "user ****, ****"
