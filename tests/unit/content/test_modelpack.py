"""The artifact's documents against the rules of the CNCF ModelPack specification."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from provider.content.modelpack import Blob, artifact

LAYER = Blob("sha256:" + "ab" * 32, 4096)

TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
TEXTS = {"type": "array", "items": TEXT}
DATE = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}
MODALITIES = {"type": "array", "items": {"enum": ["text", "image", "audio", "video", "embedding", "other"]}}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object that may hold nothing but `properties`."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


# docs/config.md of the specification: three required parts, nothing beside them, camelCase throughout.
CONFIG_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **closed(
        ["descriptor", "config", "modelfs"],
        descriptor=closed(
            [],
            createdAt=DATE,
            authors=TEXTS,
            licenses=TEXTS,
            datasetsURL=TEXTS,
            name={"type": "string", "minLength": 1},
            **dict.fromkeys(
                ("vendor", "family", "version", "title", "description", "docURL", "sourceURL", "revision"), TEXT
            ),
        ),
        config=closed(
            [],
            **dict.fromkeys(("architecture", "format", "paramSize", "precision", "quantization"), TEXT),
            capabilities=closed(
                [],
                inputTypes=MODALITIES,
                outputTypes=MODALITIES,
                knowledgeCutoff=DATE,
                languages=TEXTS,
                **dict.fromkeys(("reasoning", "toolUsage", "reward"), FLAG),
            ),
        ),
        modelfs=closed(
            ["type", "diffIds"],
            type={"const": "layers"},
            diffIds={"type": "array", "items": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}, "minItems": 1},
        ),
    ),
}


def descriptor(media_type: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "mediaType": {"const": media_type},
            "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
            "size": {"type": "integer", "minimum": 0},
            **more,
        },
        "required": ["mediaType", "digest", "size", *more],
    }


# docs/spec.md of the specification, and manifest.md of the OCI image specification.
MANIFEST_SCHEMA = {
    "type": "object",
    "properties": {
        "schemaVersion": {"const": 2},
        "mediaType": {"const": "application/vnd.oci.image.manifest.v1+json"},
        "artifactType": {"const": "application/vnd.cncf.model.manifest.v1+json"},
        "config": descriptor("application/vnd.cncf.model.config.v1+json"),
        "layers": {
            "type": "array",
            "minItems": 1,
            "items": descriptor(
                "application/vnd.cncf.model.weight.v1.tar",
                annotations={"type": "object", "required": ["org.cncf.model.filepath"], "additionalProperties": TEXT},
            ),
        },
    },
    "required": ["schemaVersion", "mediaType", "artifactType", "config", "layers"],
}


def validate(document: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_config_follows_the_specification() -> None:
    config = json.loads(artifact("sklearn_mnist", LAYER, "models/sklearn_mnist/m.pkl").config)
    validate(config, CONFIG_SCHEMA)
    assert config["descriptor"]["name"] == "sklearn_mnist"
    assert config["modelfs"]["diffIds"] == [LAYER.digest]


@pytest.mark.parametrize("field", ["diff_ids", "created"])
def test_the_schema_used_here_refuses_what_the_specification_does_not_know(field: str) -> None:
    config = json.loads(artifact("m", LAYER, "models/m/m.pkl").config)
    with pytest.raises(jsonschema.ValidationError):
        validate({**config, "modelfs": {**config["modelfs"], field: []}}, CONFIG_SCHEMA)


def test_the_manifest_follows_the_specification() -> None:
    made = artifact("m", LAYER, "models/m/folder")
    manifest = json.loads(made.manifest)
    validate(manifest, MANIFEST_SCHEMA)
    assert manifest["config"]["digest"] == made.config_blob.digest
    assert manifest["config"]["size"] == len(made.config)
    assert manifest["layers"][0]["annotations"] == {"org.cncf.model.filepath": "models/m/folder"}


def test_the_same_model_is_the_same_artifact_for_ever() -> None:
    assert artifact("m", LAYER, "models/m/folder").manifest_blob == Blob(
        "sha256:2ecd02623c529b4c05b6712ee76b702a63df6bbc1f8b5ddf6d048c1b8ccd3297", 521
    )
