"""When a registry is cleaned: by the calendar, also across restarts, and whatever the clock does."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from provider.local.layout import write_json
from provider.registry_host.keeper import Keeper
from provider.registry_host.spec import Files, Spec

DAY = 86400


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    write_json(files.spec, asdict(Spec("registry", 5000, 1, 1, 1, DAY, None)))
    return files


def waits(files: Files) -> float:
    """What a keeper that is started now waits until it cleans; in seconds."""
    return Keeper(files.folder)._seconds_to_collection()


def test_a_new_registry_is_cleaned_after_a_day(files: Files) -> None:
    assert waits(files) > DAY - 60
    assert files.collected.exists()


def test_a_keeper_that_starts_anew_does_not_begin_to_count_anew(files: Files) -> None:
    waits(files)
    os.utime(files.collected, (time.time(), time.time() - DAY + 3600))
    assert 3500 < waits(files) <= 3600


def test_a_machine_that_was_off_for_days_is_cleaned_at_once(files: Files) -> None:
    waits(files)
    os.utime(files.collected, (0, time.time() - 9 * DAY))
    assert waits(files) == 0


def test_a_clock_that_was_ahead_does_not_put_it_off_for_long(files: Files) -> None:
    waits(files)
    os.utime(files.collected, (0, time.time() + 365 * DAY))
    assert waits(files) == DAY
