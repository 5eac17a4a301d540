"""The JSON schema of the stack files."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from infra import schema

STACKS = sorted(schema.FILE.parent.glob("Pulumi.*.yaml"))


def test_the_schema_beside_the_stacks_is_the_one_of_the_models() -> None:
    assert schema.FILE.read_text() == schema.stack_file_schema(), "run `python -m infra.schema`"


@pytest.mark.parametrize("file", STACKS, ids=lambda file: file.name)
def test_a_stack_file_names_the_schema_and_follows_it(file: Path) -> None:
    text = file.read_text()

    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json.loads(schema.FILE.read_text()))


def test_a_misspelt_section_is_against_the_schema() -> None:
    document = {"config": {"slipway:workspace": {"name": "demo"}, "slipway:modles": {}}}

    with pytest.raises(jsonschema.ValidationError, match="slipway:modles"):
        jsonschema.validate(document, json.loads(schema.stack_file_schema()))
