"""Fixtures of the tests with a real engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of its own for one test; everything it deployed is taken down afterwards."""
    project = Project(tmp_path)
    yield project
    project.clear()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One deployed project for the tests of a module, which leave it in good state."""
    project = Project(tmp_path_factory.mktemp("deployed"))
    project.up()
    yield project
    project.clear()
