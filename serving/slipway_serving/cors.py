"""Cross-origin requests: the headers that let a page of another origin call the service (AML_CORS_ORIGINS)."""

from __future__ import annotations

from slipway_serving.messages import Request

METHODS = "GET, POST, OPTIONS"


class Cors:
    """The origins that are let in; "*" lets in every one."""

    def __init__(self, origins: str) -> None:
        self.origins = frozenset(origin.strip().rstrip("/").lower() for origin in origins.split(",") if origin.strip())

    def __bool__(self) -> bool:
        return bool(self.origins)

    def lines(self, request: Request) -> str:
        """The header lines for a response; none for an origin that is not let in, or a request without one.

        An origin matches with or without its scheme, since Azure's documentation shows both.
        """
        origin = request.headers.get(b"origin")
        if origin is None:
            return "vary: Origin\r\n"
        text = origin.decode("latin-1")
        lowered = text.lower()
        if "*" not in self.origins and not {lowered, lowered.partition("://")[2]} & self.origins:
            return "vary: Origin\r\n"
        lines = f"access-control-allow-origin: {text}\r\nvary: Origin\r\n"
        if request.method == b"OPTIONS" and b"access-control-request-method" in request.headers:
            lines += f"access-control-allow-methods: {METHODS}\r\naccess-control-max-age: 600\r\n"
            asked = request.headers.get(b"access-control-request-headers")
            if asked is not None:
                lines += f"access-control-allow-headers: {asked.decode('latin-1')}\r\n"
        else:
            lines += "access-control-expose-headers: x-request-id, x-ms-request-id, x-ms-run-function-failed\r\n"
        return lines
