"""What a server process is told, from the command line and the environment; a default stands here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 5001
"""Azure's own default."""
DEFAULT_GRACE = 30.0
"""Seconds that a drain may take."""


class SettingsError(Exception):
    """A setting that cannot be; the message names it and says what may stand there."""


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """Every setting of one server process, checked."""

    entry_script: str | None
    app_root: Path
    source_directory: Path
    model_dir: str | None
    framework: str | None
    """What a model without an entry script is for; None: told by its files."""
    host: str
    port: int
    unix_socket: Path | None
    """A Unix socket to listen on beside the port; without TLS."""
    revision: str
    service_name: str
    service_version: str
    """Shown in the Swagger description alone."""
    path_prefix: str
    """What a proxy in front puts before the paths; shown in the Swagger description alone."""
    cors_origins: str
    """Origins whose pages may call the service, separated by commas; "*" for all; "" for none."""
    control_fd: int | None
    scheme: str
    """http or https."""
    primary_key: str | None
    secondary_key: str | None
    keys_file: Path | None
    """Takes the place of the two keys."""
    tls_certificate: Path | None
    tls_key: Path | None
    workers: int
    """Processes that serve side by side."""
    metrics_dir: str | None
    """Where the workers of one service leave their counts for each other; None for a single process."""
    worker: str
    """The number of this process among several."""
    threads: int | None
    """Calls of `run` at the same time in one process (Azure: maxConcurrentRequestsPerContainer); None: 1, or 64 where
    `run` is a coroutine function."""
    max_batch_size: int
    """Requests that one call of the model may take together; 1: none."""
    max_batch_wait_ms: int
    """How long a batch may wait for more requests; 0: it takes what is there."""
    scoring_timeout_ms: int
    max_queue_wait_ms: int | None
    max_queue: int
    """Requests that may wait for a worker before others are turned away with 429."""
    max_body: int
    client_timeout: float
    """Seconds that a slow client gets: for the head of a request, and beyond 1 KiB/s for its body and its response."""
    keep_alive: float
    """Seconds that a connection may stay idle."""
    grace: float
    collect_dir: Path | None
    """Where inputs and outputs are collected; None: nowhere."""
    collect_sample: float
    """The share of requests that is collected, 0 to 1."""
    collect_redact: frozenset[str]
    """Names of JSON members whose values are blacked out."""
    collect_max_bytes: int
    """What the collected data of this service may take on disk."""
    access_log: bool
    log_json: bool
    log_level: str


def number(environ: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int = 2**53) -> int:
    """A whole number from the environment. Raises SettingsError."""
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: give a whole number from {least} to {most}") from None
    if not least <= value <= most:
        raise SettingsError(f"{name} is {value}: give a whole number from {least} to {most}")
    return value


def share(environ: Mapping[str, str], name: str) -> float:
    """A share from 0 to 1 from the environment; 1 where it is not set. Raises SettingsError."""
    text = environ.get(name, "").strip() or "1"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise SettingsError(f"{name} is {text!r}: give a share from 0 to 1")
    return value


def app_root_of(environ: Mapping[str, str]) -> Path:
    """AML_APP_ROOT, else the working directory."""
    return Path(environ.get("AML_APP_ROOT") or Path.cwd())


def publish(settings: Settings) -> None:
    """Set the environment variables that Azure's server gives an entry script."""
    os.environ["AML_APP_ROOT"] = str(settings.app_root)
    if settings.entry_script is not None:
        os.environ["AZUREML_ENTRY_SCRIPT"] = settings.entry_script
    if settings.model_dir is not None:
        os.environ["AZUREML_MODEL_DIR"] = settings.model_dir
    os.environ["SERVICE_NAME"] = settings.service_name


def otlp_endpoint(environ: Mapping[str, str]) -> str | None:
    """Where OpenTelemetry spans go, by the variables of its specification: None for nowhere."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    exact = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if exact:
        return exact
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return f"{base.rstrip('/')}/v1/traces" if base else None
