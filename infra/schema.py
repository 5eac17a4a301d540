"""The JSON schema of a stack file, generated from `infra.config`, for an editor's completion.

`python -m infra.schema` writes `stacks/schema.json`; a test holds the file to what this module makes.
"""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path
from typing import Any

from infra import config
from infra.config import NAMESPACE, StackConfig
from infra.config.base import sections

FILE = Path(__file__).resolve().parents[1] / "stacks" / "schema.json"


def stack_file_schema() -> str:
    """The schema of `stacks/Pulumi.<stack>.yaml` as a JSON text (JSON Schema, draft 2020-12)."""
    schema: dict[str, Any] = StackConfig.model_json_schema(by_alias=True, mode="validation")
    _describe(schema)
    named = {NAMESPACE + name: section for name, section in schema["properties"].items()}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A stack of Slipway",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "description": "The stack's configuration.",
                "properties": named,
                "required": [NAMESPACE + name for name in schema["required"]],
                "patternProperties": {f"^(?!{NAMESPACE})": {}},
                # Secrets that sections name stand beside them, encrypted.
                "additionalProperties": {
                    "type": "object",
                    "properties": {"secure": {"type": "string"}},
                    "required": ["secure"],
                    "additionalProperties": False,
                },
            },
            "secretsprovider": {"type": "string"},
            "encryptedkey": {"type": "string"},
            "encryptionsalt": {"type": "string"},
        },
        "$defs": schema["$defs"],
    }
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _describe(schema: dict[str, Any]) -> None:
    """Gives every property its field's docstring: the text below the field in the source of `infra.config`."""
    sources = [file.read_text(encoding="utf-8") for file in sorted(Path(config.__path__[0]).glob("*.py"))]
    for section in itertools.chain.from_iterable(ast.parse(source).body for source in sources):
        if not isinstance(section, ast.ClassDef):
            continue
        place = schema if section.name == StackConfig.__name__ else schema["$defs"].get(section.name)
        for field, text in itertools.pairwise(section.body):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                    if place is not None:
                        place["properties"][_written(section.name, name)]["description"] = docstring


def _written(section: str, field: str) -> str:
    """How a field is written in a stack file."""
    model = next(item for item in sections() if item.__name__ == section)
    return model.model_fields[field].alias or field


if __name__ == "__main__":
    FILE.write_text(stack_file_schema(), encoding="utf-8")
