"""`azureml.contrib.services`: `@rawhttp`, `AMLRequest` and `AMLResponse` for scripts that want the HTTP exchange
itself.

The names and behaviour are those that Azure documents, which are Flask's; only what entry scripts use is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from slipway_serving.messages import Request

__all__ = ["AMLRequest", "AMLResponse", "rawhttp"]
F = TypeVar("F", bound=Callable[..., Any])


def rawhttp(function: F) -> F:
    """Mark `run` as one that takes an `AMLRequest`."""
    function._slipway_rawhttp = True  # type: ignore[attr-defined]
    return function


class Headers(Mapping[str, str]):
    """Headers by name, in any case."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower().encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1").title() for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class MultiDict(dict[str, str]):
    """The first value of each name, and all of them through `getlist`."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(reversed(pairs))
        self._pairs = pairs

    def getlist(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        return [value for key, value in self._pairs if key == name]


class UploadedFile:
    """One file of a multipart form: `filename`, `content_type`, `stream`, `read()`."""

    def __init__(self, name: str, filename: str, content_type: str, content: bytes) -> None:
        self.name = name
        self.filename = filename
        self.content_type = content_type
        self.mimetype = content_type
        self.stream = BytesIO(content)
        self.read = self.stream.read
        self.seek = self.stream.seek

    def save(self, path: str) -> None:
        """Write the content to `path`."""
        Path(path).write_bytes(self.stream.getvalue())


class AMLRequest:
    """The HTTP request as a script under `@rawhttp` sees it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.method = request.method.decode("latin-1")
        self.path = request.path.decode("latin-1")
        self.query_string = request.query
        self.full_path = f"{self.path}?{request.query.decode('latin-1')}"
        self.url = f"http://{request.headers.get(b'host', b'').decode('latin-1')}{self.full_path.rstrip('?')}"
        self.headers = Headers(request.headers)
        self.args = MultiDict(parse_qsl(request.query.decode("latin-1"), keep_blank_values=True))
        self._form: tuple[MultiDict, dict[str, UploadedFile]] | None = None

    @property
    def data(self) -> bytes:
        """The body."""
        return self._request.body

    @property
    def stream(self) -> BytesIO:
        """The body as a file."""
        return BytesIO(self._request.body)

    @property
    def content_type(self) -> str:
        """The Content-Type header, "" without one."""
        return self.headers.get("content-type") or ""

    @property
    def mimetype(self) -> str:
        """The content type without its parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def content_length(self) -> int:
        """Bytes of the body."""
        return len(self._request.body)

    @property
    def is_json(self) -> bool:
        """True where the content type is JSON's."""
        return self.mimetype == "application/json" or self.mimetype.endswith("+json")

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self._request.body)

    @property
    def form(self) -> MultiDict:
        """The fields of a form, URL-encoded or multipart."""
        return self._read_form()[0]

    @property
    def files(self) -> dict[str, UploadedFile]:
        """The files of a multipart form by field name."""
        return self._read_form()[1]

    def get_data(self, cache: bool = True, as_text: bool = False) -> bytes | str:
        """The body, as text (UTF-8) if asked."""
        return self._request.body.decode() if as_text else self._request.body

    def get_json(self, force: bool = False, silent: bool = False) -> Any:
        """The body read as JSON; None where the content type is another and `force` is not set."""
        if not (force or self.is_json):
            return None
        try:
            return self.json
        except ValueError:
            if silent:
                return None
            raise

    def _read_form(self) -> tuple[MultiDict, dict[str, UploadedFile]]:
        if self._form is None:
            if self.mimetype == "multipart/form-data":
                self._form = _read_multipart(self.content_type, self._request.body)
            elif self.mimetype == "application/x-www-form-urlencoded":
                pairs = parse_qsl(self._request.body.decode("utf-8", "replace"), keep_blank_values=True)
                self._form = MultiDict(pairs), {}
            else:
                self._form = MultiDict([]), {}
        return self._form


def _read_multipart(content_type: str, body: bytes) -> tuple[MultiDict, dict[str, UploadedFile]]:
    message: Message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body
    )
    fields: list[tuple[str, str]] = []
    files: dict[str, UploadedFile] = {}
    if not message.is_multipart():
        return MultiDict(fields), files
    for part in message.get_payload():
        if not isinstance(part, Message):
            continue
        name = part.get_param("name", header="content-disposition")
        filename = part.get_filename()
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            continue
        if filename is None:
            fields.append((name, content.decode("utf-8", "replace")))
        else:
            files.setdefault(name, UploadedFile(name, filename, part.get_content_type(), content))
    return MultiDict(fields), files


class AMLResponse:
    """A response whose status, headers and body go out as the script gives them.

    A comma in a header's value separates several headers of the name, as in Azure's server; None as message is `{}`.
    """

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Mapping[str, str] | None = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        self.status_code = status_code
        pairs: list[tuple[str, str]] = []
        if message is None or json_str:
            self._body = json.dumps({} if message is None else message).encode()
            content_type = "application/json"
        else:
            self._body = message.encode() if isinstance(message, str) else bytes(message)
            content_type = "text/html; charset=utf-8"
        for name, value in (response_headers or {}).items():
            if name.lower() == "content-type":
                content_type = value
            else:
                pairs += [(name, item.strip()) for item in str(value).split(",")]
        self.headers = ResponseHeaders(
            [("Content-Type", content_type), *pairs, ("x-ms-run-function-failed", str(run_function_failed))]
        )

    @property
    def data(self) -> bytes:
        """The body."""
        return self._body

    def get_data(self) -> bytes:
        """The body."""
        return self._body


class ResponseHeaders:
    """The headers of a response: pairs, in order, a name several times if need be."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __setitem__(self, name: str, value: str) -> None:
        self._pairs = [(key, old) for key, old in self._pairs if key.lower() != name.lower()]
        self._pairs.append((name, value))

    def __getitem__(self, name: str) -> str:
        for key, value in self._pairs:
            if key.lower() == name.lower():
                return value
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(key.lower() == str(name).lower() for key, _ in self._pairs)

    def add(self, name: str, value: str) -> None:
        """One more header of that name."""
        self._pairs.append((name, value))

    def items(self) -> list[tuple[str, str]]:
        """All headers in order."""
        return list(self._pairs)
