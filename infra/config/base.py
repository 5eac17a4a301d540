"""What all sections of the configuration are made of: their common base, and the kinds of names and texts in them."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
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


def _bind_address(address: str) -> str:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(f"{address!r} is no IP address: give one of the host's, 0.0.0.0 for all of them") from None
    return address


def _text(value: object) -> object:
    # YAML reads 1.7 and true as what they look like; as a tag or a variable they mean their text.
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


DnsLabel = Annotated[str, AfterValidator(_dns_label)]
AssetName = Annotated[str, AfterValidator(_asset_name)]
Alias = Annotated[str, AfterValidator(_alias)]
IpAddress = Annotated[str, AfterValidator(_bind_address)]
Text = Annotated[str, BeforeValidator(_text)]
Path = Annotated[str, Field(min_length=1)]


def _form(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<section>"


TEXT, SECTION = Tag("<text>"), Tag("<section>")
"""What the members of a union are annotated with that takes a text or a section; no name can be like them."""
BY_FORM = Discriminator(_form)
"""What such a union is annotated with: a value is told the mistakes of what it was written as, and no others."""


class Section(BaseModel):
    """What all sections share."""

    # The fields' docstrings come into the schema by `infra.schema`: to have pydantic read the source for them
    # (`use_attribute_docstrings`) would cost every preview a tenth of a second.
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


def _secret_name(name: str) -> str:
    # The words do not repeat it: it may be the secret itself.
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", name) is None:
        raise ValueError("is no name of a secret: up to 63 letters, digits, '_' and '-', a letter first")
    return name


class SecretReference(Section):
    """Names a secret, which is set apart from the configuration: `pulumi config set --secret slipway:NAME`."""

    secret: Annotated[str, AfterValidator(_secret_name)]
    """Name of the secret."""


def _named_secret(value: object) -> object:
    if isinstance(value, SecretReference | dict):
        return value
    raise ValueError(
        f"is a secret, which does not stand here: write {{secret: NAME}}, and set it with "
        f"`pulumi config set --secret {NAMESPACE}NAME`"
    )


TextOrSecret = Annotated[Annotated[str, TEXT] | Annotated[SecretReference, SECTION], BY_FORM]
"""A plain value, or `{secret: NAME}`."""
Secret = Annotated[SecretReference, BeforeValidator(_named_secret)]
"""Where a secret value is meant."""


def field_names() -> frozenset[str]:
    """Every field name of the vocabulary, as written in YAML."""
    return frozenset(field.alias or name for model in sections() for name, field in model.model_fields.items())


def sections(base: type[Section] = Section) -> list[type[Section]]:
    """Every kind of section."""
    return [item for child in base.__subclasses__() for item in (child, *sections(child))]
