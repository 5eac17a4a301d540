"""The command line: reads the options, checks them all, and runs the server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from slipway_serving import __version__
from slipway_serving.collection import writable
from slipway_serving.logs import LEVELS, configure
from slipway_serving.settings import DEFAULT_GRACE, DEFAULT_PORT, Settings, SettingsError, app_root_of, number, share

FRAMEWORKS = ("Onnx", "ScikitLearn", "TensorFlow", "XGBoost", "LightGBM")
KEY_VARIABLES = ("SLIPWAY_PRIMARY_KEY", "SLIPWAY_SECONDARY_KEY")


def build_parser() -> argparse.ArgumentParser:
    """The options, as `--help` shows them."""
    parser = argparse.ArgumentParser(
        prog="slipway-serve",
        description="Serves an Azure ML v1 entry script (init() and run(data)), or a model without one, over HTTP.",
        epilog="Each option in [brackets] may come from the environment variable instead. "
        "Example: slipway-serve --entry-script score.py --model-dir model --port 8890",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"slipway-serve {__version__}")
    what = parser.add_argument_group("what to serve")
    what.add_argument(
        "--entry-script",
        "--entry_script",
        metavar="FILE",
        help="the Python file with init() and run() [AZUREML_ENTRY_SCRIPT]",
    )
    what.add_argument(
        "--source-directory", metavar="DIR", help="where the script and its modules are [AZUREML_SOURCE_DIRECTORY]"
    )
    what.add_argument(
        "--model-dir", "--model_dir", metavar="DIR", help="the model's files, told to the script as AZUREML_MODEL_DIR"
    )
    what.add_argument(
        "--framework",
        metavar="NAME",
        help="of a model without a script: Onnx, ScikitLearn, TensorFlow, XGBoost, LightGBM (default: by its files) "
        "[SLIPWAY_FRAMEWORK]",
    )
    what.add_argument("--service-name", metavar="NAME", help="the service's name [SERVICE_NAME]")
    what.add_argument("--revision", metavar="ID", help="sent back as the header slipway-revision [SLIPWAY_REVISION]")
    where = parser.add_argument_group("where to listen")
    where.add_argument("--host", metavar="ADDRESS", help="the address to listen on (default: 127.0.0.1) [SLIPWAY_HOST]")
    where.add_argument("--port", metavar="N", help=f"the port (default: {DEFAULT_PORT}) [SERVER_PORT]")
    where.add_argument(
        "--unix-socket",
        metavar="PATH",
        help="a Unix socket to listen on as well, for a router on the same machine [SLIPWAY_UNIX_SOCKET]",
    )
    where.add_argument(
        "--cors-origins", metavar="LIST", help="origins whose pages may call it, or * [AML_CORS_ORIGINS]"
    )
    access = parser.add_argument_group(
        "access", "Keys come from a file, or from SLIPWAY_PRIMARY_KEY and SLIPWAY_SECONDARY_KEY; never from an option."
    )
    access.add_argument("--keys-file", metavar="FILE", help="one or two keys, read again on change [SLIPWAY_KEYS_FILE]")
    access.add_argument("--tls-certificate", metavar="FILE", help="PEM, read again on change [SLIPWAY_TLS_CERTIFICATE]")
    access.add_argument("--tls-key", metavar="FILE", help="PEM, without a passphrase [SLIPWAY_TLS_KEY]")
    load = parser.add_argument_group("load and limits")
    load.add_argument("--workers", metavar="N", help="processes that serve side by side (default: 1) [WORKER_COUNT]")
    load.add_argument(
        "--max-concurrent-requests",
        metavar="N",
        help="calls of run() at a time in one process (default: 1; async: 64) [SLIPWAY_MAX_CONCURRENT_REQUESTS]",
    )
    load.add_argument(
        "--max-queue-wait-ms",
        metavar="N",
        help="longest wait for a free worker, then 503 (default: no limit of its own) [SLIPWAY_MAX_QUEUE_WAIT_MS]",
    )
    load.add_argument(
        "--max-queue", metavar="N", help="requests that may wait, then 429 (default: 1000) [SLIPWAY_MAX_QUEUE]"
    )
    load.add_argument(
        "--scoring-timeout-ms",
        metavar="N",
        help="longest time in which a request is answered, then 504 (default: 60000) [SCORING_TIMEOUT_MS]",
    )
    load.add_argument(
        "--max-batch-size",
        metavar="N",
        help="requests that one call of the model may take together (default: 1) [SLIPWAY_MAX_BATCH_SIZE]",
    )
    load.add_argument(
        "--max-batch-wait-ms",
        metavar="N",
        help="how long a batch waits for more requests (default: 0) [SLIPWAY_MAX_BATCH_WAIT_MS]",
    )
    load.add_argument(
        "--max-body-bytes",
        metavar="N",
        help="largest request body, then 413 (default: 100 MiB) [SLIPWAY_MAX_BODY_BYTES]",
    )
    load.add_argument(
        "--grace-seconds",
        metavar="N",
        help="how long SIGTERM waits for open requests (default: 30) [SLIPWAY_GRACE_SECONDS]",
    )
    collect = parser.add_argument_group("data collection")
    collect.add_argument(
        "--collect-dir",
        metavar="DIR",
        help="where inputs and outputs are kept (default: nowhere) [SLIPWAY_COLLECT_DIR]",
    )
    collect.add_argument(
        "--collect-sample", metavar="SHARE", help="share of requests, 0 to 1 (default: 1) [SLIPWAY_COLLECT_SAMPLE]"
    )
    collect.add_argument(
        "--collect-redact", metavar="NAMES", help="JSON members to black out, by commas [SLIPWAY_COLLECT_REDACT]"
    )
    collect.add_argument(
        "--collect-max-bytes", metavar="N", help="what it may take on disk (default: 1 GiB) [SLIPWAY_COLLECT_MAX_BYTES]"
    )
    log = parser.add_argument_group("what it says")
    log.add_argument("--access-log", action="store_true", help="log every request, not only those that fail")
    log.add_argument("--log-format", metavar="KIND", help="text or json (default: text) [SLIPWAY_LOG_FORMAT]")
    log.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, ... (default: INFO) [AZUREML_LOG_LEVEL]")
    parser.add_argument("--control-fd", type=int, help=argparse.SUPPRESS)
    return parser


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Settings from the command line and the environment. Exits with 2 and a message where one is wrong."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    # An option is put where the environment would have it, so that each is checked, and named, in one place.
    for variable, value in (
        ("AZUREML_ENTRY_SCRIPT", options.entry_script),
        ("AZUREML_SOURCE_DIRECTORY", options.source_directory),
        ("SLIPWAY_FRAMEWORK", options.framework),
        ("SERVICE_NAME", options.service_name),
        ("SLIPWAY_REVISION", options.revision),
        ("SLIPWAY_HOST", options.host),
        ("SERVER_PORT", options.port),
        ("SLIPWAY_UNIX_SOCKET", options.unix_socket),
        ("AML_CORS_ORIGINS", options.cors_origins),
        ("SLIPWAY_COLLECT_DIR", options.collect_dir),
        ("SLIPWAY_COLLECT_SAMPLE", options.collect_sample),
        ("SLIPWAY_COLLECT_REDACT", options.collect_redact),
        ("SLIPWAY_COLLECT_MAX_BYTES", options.collect_max_bytes),
        ("SLIPWAY_LOG_FORMAT", options.log_format),
        ("AZUREML_LOG_LEVEL", options.log_level),
        ("WORKER_COUNT", options.workers),
        ("SLIPWAY_KEYS_FILE", options.keys_file),
        ("SLIPWAY_TLS_CERTIFICATE", options.tls_certificate),
        ("SLIPWAY_TLS_KEY", options.tls_key),
        ("SLIPWAY_MAX_CONCURRENT_REQUESTS", options.max_concurrent_requests),
        ("SLIPWAY_MAX_QUEUE_WAIT_MS", options.max_queue_wait_ms),
        ("SLIPWAY_MAX_QUEUE", options.max_queue),
        ("SLIPWAY_MAX_BATCH_SIZE", options.max_batch_size),
        ("SLIPWAY_MAX_BATCH_WAIT_MS", options.max_batch_wait_ms),
        ("SCORING_TIMEOUT_MS", options.scoring_timeout_ms),
        ("SLIPWAY_MAX_BODY_BYTES", options.max_body_bytes),
        ("SLIPWAY_GRACE_SECONDS", options.grace_seconds),
    ):
        if value is not None:
            os.environ[variable] = value
    try:
        return _settings(options.model_dir, options.control_fd, options.access_log)
    except SettingsError as error:
        parser.error(str(error))


def _settings(model_dir: str | None, control_fd: int | None, access_log: bool) -> Settings:
    environ = os.environ
    app_root = app_root_of(environ)
    entry_script = environ.get("AZUREML_ENTRY_SCRIPT") or None
    if entry_script is None and model_dir is None and not environ.get("AZUREML_MODEL_DIR"):
        raise SettingsError("name an entry script with --entry-script, or a model that needs none with --model-dir")
    framework = environ.get("SLIPWAY_FRAMEWORK") or None
    if framework is not None and framework not in FRAMEWORKS:
        raise SettingsError(f"SLIPWAY_FRAMEWORK is {framework!r}: give one of {', '.join(FRAMEWORKS)}")
    source_directory = app_root / environ.get("AZUREML_SOURCE_DIRECTORY", "")
    if not source_directory.is_dir():
        raise SettingsError(f"the source directory {source_directory} does not exist")
    if model_dir is not None and not Path(model_dir).exists():
        raise SettingsError(f"the model directory {model_dir} does not exist")
    revision = environ.get("SLIPWAY_REVISION", "")
    if not all(33 <= ord(c) <= 126 for c in revision):
        raise SettingsError(f"the revision {revision!r} cannot stand in a header: use printable ASCII without spaces")
    log_format = environ.get("SLIPWAY_LOG_FORMAT") or "text"
    if log_format not in ("text", "json"):
        raise SettingsError(f"SLIPWAY_LOG_FORMAT is {log_format!r}: give text or json")
    log_level = (environ.get("AZUREML_LOG_LEVEL") or "INFO").upper()
    if log_level not in LEVELS:
        raise SettingsError(f"AZUREML_LOG_LEVEL is {log_level!r}: give one of {', '.join(LEVELS)}")
    collect_dir = Path(environ["SLIPWAY_COLLECT_DIR"]) if environ.get("SLIPWAY_COLLECT_DIR") else None
    if collect_dir is not None and (trouble := writable(collect_dir)) is not None:
        raise SettingsError(f"data cannot be collected to {collect_dir}: {trouble}")
    collect_sample = share(environ, "SLIPWAY_COLLECT_SAMPLE")
    # Taken out of the environment, where the script and whatever it starts would find them.
    primary_key, secondary_key = (environ.pop(name, "") or None for name in KEY_VARIABLES)
    certificate, key = (
        Path(environ[name]) if environ.get(name) else None for name in ("SLIPWAY_TLS_CERTIFICATE", "SLIPWAY_TLS_KEY")
    )
    if (certificate is None) != (key is None):
        raise SettingsError("TLS needs both, --tls-certificate and --tls-key")
    wait = number(environ, "SLIPWAY_MAX_QUEUE_WAIT_MS", -1)
    return Settings(
        entry_script=entry_script,
        app_root=app_root,
        source_directory=source_directory,
        framework=framework,
        model_dir=model_dir if model_dir is None else str(Path(model_dir).resolve()),
        host=environ.get("SLIPWAY_HOST") or "127.0.0.1",
        port=number(environ, "SERVER_PORT", DEFAULT_PORT, most=65535),
        unix_socket=Path(environ["SLIPWAY_UNIX_SOCKET"]) if environ.get("SLIPWAY_UNIX_SOCKET") else None,
        revision=revision,
        service_version=environ.get("SERVICE_VERSION") or "1.0",
        path_prefix=f"/{prefix}" if (prefix := environ.get("SERVICE_PATH_PREFIX", "").strip("/")) else "",
        cors_origins=environ.get("AML_CORS_ORIGINS", ""),
        service_name=environ.get("SERVICE_NAME") or "service",
        control_fd=control_fd,
        primary_key=primary_key,
        secondary_key=secondary_key,
        keys_file=Path(environ["SLIPWAY_KEYS_FILE"]) if environ.get("SLIPWAY_KEYS_FILE") else None,
        tls_certificate=certificate,
        tls_key=key,
        workers=number(environ, "WORKER_COUNT", 1, least=1, most=256),
        metrics_dir=environ.get("SLIPWAY_METRICS_DIR") or None,
        worker=environ.get("SLIPWAY_WORKER", "0"),
        scheme="http" if certificate is None else "https",
        threads=number(environ, "SLIPWAY_MAX_CONCURRENT_REQUESTS", 0, most=1024) or None,
        max_batch_size=number(environ, "SLIPWAY_MAX_BATCH_SIZE", 1, least=1, most=65536),
        max_batch_wait_ms=number(environ, "SLIPWAY_MAX_BATCH_WAIT_MS", 0, most=60_000),
        scoring_timeout_ms=number(environ, "SCORING_TIMEOUT_MS", 60_000, least=1),
        max_queue_wait_ms=None if wait < 0 else wait,
        max_queue=number(environ, "SLIPWAY_MAX_QUEUE", 1000),
        max_body=number(environ, "SLIPWAY_MAX_BODY_BYTES", 100 * 1024 * 1024, least=1),
        client_timeout=float(number(environ, "SLIPWAY_CLIENT_TIMEOUT_S", 20, least=1, most=86400)),
        keep_alive=float(number(environ, "SLIPWAY_KEEP_ALIVE_S", 75, least=1, most=86400)),
        grace=float(number(environ, "SLIPWAY_GRACE_SECONDS", int(DEFAULT_GRACE), most=86400)),
        collect_dir=collect_dir,
        collect_sample=collect_sample,
        collect_redact=frozenset(n.strip() for n in environ.get("SLIPWAY_COLLECT_REDACT", "").split(",") if n.strip()),
        collect_max_bytes=number(environ, "SLIPWAY_COLLECT_MAX_BYTES", 1024**3, least=1),
        access_log=access_log,
        log_json=log_format == "json",
        log_level=log_level,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; the process's exit code: 0 after a drain, 2 for wrong options, 3 where it could not start."""
    settings = parse(arguments)
    configure(
        as_json=settings.log_json,
        level=settings.log_level,
        service=settings.service_name,
        revision=settings.revision,
    )
    if settings.workers > 1:
        from slipway_serving import workers

        return workers.serve(settings, sys.argv[1:] if arguments is None else arguments)
    from slipway_serving.server import Server

    try:
        server = Server(settings)
    except SettingsError as error:
        build_parser().error(str(error))
    return server.run()


if __name__ == "__main__":
    sys.exit(main())
