"""The routes beside /score: Swagger, metrics, cross-origin requests."""

from __future__ import annotations

import re

from tests.unit.serving.conftest import Serve
from tests.unit.serving.support import ECHO
from tests.unit.serving.test_serving_scripts import SCHEMA


def test_swagger_2_is_the_default_and_shows_the_decorators_schema(serve: Serve) -> None:
    server = serve(SCHEMA, "--service-name", "mine", env={"SERVICE_PATH_PREFIX": "api/v1/service/mine"})
    swagger = server.ask("GET", "/swagger.json").json()
    assert swagger["swagger"] == "2.0"
    assert swagger["info"]["title"] == "mine"
    assert "/api/v1/service/mine/score" in swagger["paths"]
    given = swagger["definitions"]["ServiceInput"]
    assert given["properties"]["data"] == {
        "type": "array",
        "items": {"type": "array", "items": {"type": "number", "format": "double"}},
        "format": "numpy.ndarray",
    }
    assert given["example"]["data"] == [[1.0, 2.0]]
    assert given["example"]["frame"] == [{"a": 1, "b": "x"}]
    assert given["properties"]["nested"]["properties"]["array"]["format"] == "numpy.ndarray"
    assert swagger["definitions"]["ServiceOutput"]["properties"]["sum"] == {"type": "number", "format": "double"}


def test_swagger_versions(serve: Serve) -> None:
    server = serve()
    assert server.ask("GET", "/swagger.json?version=3").json()["openapi"] == "3.0.3"
    assert server.ask("GET", "/swagger.json?version=3.1").json()["openapi"] == "3.1.0"
    assert server.ask("GET", "/swagger.json?version=2.0").json()["swagger"] == "2.0"
    unknown = server.ask("GET", "/swagger.json?version=9")
    assert unknown.status == 404
    assert unknown.json() == {"message": "Swagger version [9] is not valid. Supported versions: [2, 3, 3.1]."}


def test_a_swagger_file_of_the_users_own_comes_first(serve: Serve) -> None:
    server = serve()
    (server.directory / "swagger.json").write_text('{"swagger": "2.0", "mine": true}')
    (server.directory / "swagger3.json").write_text("{")
    assert server.ask("GET", "/swagger.json").json()["mine"] is True
    broken = server.ask("GET", "/swagger.json?version=3")
    assert broken.status == 404
    assert "swagger3.json beside the script is not JSON" in broken.json()["message"]


def value(text: str, name: str, labels: str = "") -> float:
    found = re.search(rf"^{name}{{[^}}]*{re.escape(labels)}[^}}]*}} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} {labels} is not in\n{text}"
    return float(found[1])


def test_metrics_count_requests_and_time_them(serve: Serve) -> None:
    server = serve(
        "def init(): pass\ndef run(data):\n    return 1 / int(data)\n", "--revision", "r7", "--service-name", 'a"b'
    )
    for body in ("1", "2", "0"):
        server.score(body)
    server.ask("GET", "/nothing")
    answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.body.decode()
    assert value(text, "slipway_requests_total", 'route="/score",code="200"') == 2
    assert value(text, "slipway_requests_total", 'route="/score",code="500"') == 1
    assert value(text, "slipway_requests_total", 'route="other",code="404"') == 1
    assert value(text, "slipway_request_duration_seconds_count", 'route="/score"') == 3
    assert value(text, "slipway_request_duration_seconds_bucket", 'route="/score",le="+Inf"') == 3
    assert value(text, "slipway_run_duration_seconds_count") == 2
    assert value(text, "slipway_requests_in_flight") == 0
    assert value(text, "process_resident_memory_bytes") > 2**20
    assert 'service="a\\"b",revision="r7",model="a\\"b",model_version="1"' in text


def test_cross_origin_requests_are_off_unless_asked_for(serve: Serve) -> None:
    server = serve()
    answer = server.ask("POST", "/score", "x", {"Origin": "https://example.com"})
    assert "access-control-allow-origin" not in answer.headers
    assert server.ask("OPTIONS", "/score").status == 200


def test_cross_origin_requests_of_known_origins(serve: Serve) -> None:
    server = serve(ECHO, env={"AML_CORS_ORIGINS": "https://www.microsoft.com, bing.com"})
    for origin in ("https://www.microsoft.com", "https://bing.com"):
        answer = server.ask("POST", "/score", "x", {"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
    for origin in ("https://evil.com", "https://www.microsoft.com.evil.com", "http://www.microsoft.com", "null"):
        assert "access-control-allow-origin" not in server.ask("POST", "/score", "x", {"Origin": origin}).headers
    preflight = {
        "Origin": "https://bing.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,authorization",
    }
    for path in ("/score", "/v2/models/service/infer", "/ready"):
        answer = server.ask("OPTIONS", path, headers=preflight)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://bing.com"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "content-type,authorization"


def test_every_origin_with_a_star(serve: Serve) -> None:
    server = serve(ECHO, "--cors-origins", "*")
    assert (
        server.ask("GET", "/", headers={"Origin": "https://a.b"}).headers["access-control-allow-origin"]
        == "https://a.b"
    )
