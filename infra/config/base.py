"""What all sections of the configuration are made of: their common base, and the kinds of names and texts in them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

NAMESPACE = "slipway:"
"""What the keys of the configuration begin with: the project's name."""


def _dns_label(name: str) -> str:
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) is None:
        raise ValueError(
            f"{name!r} is no DNS label (RFC 1123): 1 to 63 of a-z, 0-9 and '-', the first and last a letter or digit"
        )
    return name


def _asset_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name) is None:
        raise ValueError(
            f"{name!r} is no name: up to 255 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    return name


def _alias(name: str) -> str:
    # Beside a model's name it becomes a tag, `name-alias`: with a dash or as a number it could be another one's.
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) is None:
        raise ValueError(f"{name!r} is no alias: up to 63 letters, digits and '_', a letter first")
    return name


def _text(value: object) -> object:
    # YAML reads 1.7 and true as what they look like; as a tag or a variable they mean their text.
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


DnsLabel = Annotated[str, AfterValidator(_dns_label)]
AssetName = Annotated[str, AfterValidator(_asset_name)]
Alias = Annotated[str, AfterValidator(_alias)]
Text = Annotated[str, BeforeValidator(_text)]
Path = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """What all sections share."""

    # The fields' docstrings come into the schema by `infra.schema`: to have pydantic read the source for them
    # (`use_attribute_docstrings`) would cost every preview a tenth of a second.
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def field_names() -> frozenset[str]:
    """Every field name of the vocabulary, as written in YAML."""
    return frozenset(field.alias or name for model in _sections(Section) for name, field in model.model_fields.items())


def _sections(base: type[Section]) -> list[type[Section]]:
    return [item for child in base.__subclasses__() for item in (child, *_sections(child))]
