"""docker.Image: an image that is built, and pushed where it is to go.

In the official plugin this type is one of Pulumi's own, not of a Terraform provider: its state keeps the inputs
(`__inputs`), and differences are those between them and the new ones. A refresh looks at nothing, and a delete removes
nothing.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import ClassVar

from airgap.docker import build_context, images, rules
from airgap.docker.build import Build, run
from airgap.docker.connection import Auth, Connection, host_of
from airgap.docker.schema import Schema, an_object, boolean, mapping, string, strings
from provider.resource import Change, Context, Failure, ResourceError
from provider.values import UNKNOWN, Properties, is_known

INPUTS = "__inputs"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_BUILD = {
    "addHosts": strings(),
    "args": mapping(),
    "builderVersion": string(choices=("BuilderV1", "BuilderBuildKit")),
    "cacheFrom": an_object({"images": strings()}),
    "context": string(),
    "dockerfile": string(),
    "network": string(),
    "platform": string(),
    "target": string(),
}
_OUTPUTS = ("baseImageName", "context", "dockerfile", "imageName", "platform", "registryServer", "repoDigest")


class Image:
    """Every change builds again, in place. Its id is its name."""

    token: ClassVar[str] = "docker:index/image:Image"
    schema: ClassVar[Schema] = Schema(
        inputs={
            "build": an_object(_BUILD),
            "buildOnPreview": boolean(),
            "imageName": string(required=True),
            "registry": an_object({"password": string(), "server": string(), "username": string()}),
            "skipPush": boolean(),
        },
        outputs=_OUTPUTS,
        autonamed=False,
    )
    secrets: ClassVar[frozenset[str]] = frozenset({INPUTS})

    def check(
        self, context: Context, news: Properties, olds: Properties, seed: bytes
    ) -> tuple[Properties, list[Failure]]:
        failures = rules.failures(self.token, self.schema, news)
        build = news.get("build")
        if failures or build is UNKNOWN:
            return news, failures
        build = dict(build or {})
        build.setdefault("platform", f"linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}")
        checked = {**news, "build": build}
        if is_known([build.get("context"), build.get("dockerfile")]):
            folder, dockerfile = place(build)
            problem = _problem(folder, dockerfile)
            if problem is not None:
                return checked, [problem]
            try:
                build["contextDigest"] = build_context.digest(folder, dockerfile)
            except (OSError, ValueError) as error:
                return checked, [Failure("build.context", f"{folder} cannot be read: {error}")]
        return checked, _name_problems(news)

    def diff(self, state: Properties, news: Properties) -> list[Change]:
        olds = state.get(INPUTS) or {}
        changes = []
        for name in sorted(olds.keys() | news.keys()):
            old, new = olds.get(name), news.get(name)
            if name == "registry" and isinstance(old, dict) and isinstance(new, dict):
                # Credentials come and go, often with each deployment: they are no change of the image.
                old, new = old.get("server"), new.get("server")
            if old != new or not is_known(new):
                kind = "add" if old is None else "delete" if new is None else "update"
                changes.append(Change(name, kind, of_input=False))  # type: ignore[arg-type]
        return changes

    def preview(
        self, connection: Connection, context: Context, news: Properties, state: Properties | None
    ) -> Properties:
        if news.get("buildOnPreview") and is_known(news):
            self._build(connection, context, news)
        return {INPUTS: news, **dict.fromkeys(_OUTPUTS, UNKNOWN)}

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        name = news["imageName"]
        credentials = self._build(connection, context, news)
        folder, dockerfile = place(news.get("build") or {})
        state = {
            "baseImageName": name,
            "context": folder,
            "dockerfile": os.path.relpath(dockerfile, folder),
            "imageName": name,
            "platform": (news.get("build") or {}).get("platform"),
            "registryServer": (news.get("registry") or {}).get("server") or "",
            INPUTS: news,
        }
        if not news.get("skipPush"):
            context.log.status(f"pushing {name}")
            repository, _ = images.repository_and_tag(name)
            state["repoDigest"] = f"{repository}@{images.push(connection, name, credentials)}"
        return name, state

    def read(
        self, connection: Connection, resource_id: str, state: Properties, inputs: Properties
    ) -> tuple[str, Properties, Properties] | None:
        return resource_id, state, inputs

    def update(
        self, connection: Connection, context: Context, resource_id: str, state: Properties, news: Properties
    ) -> Properties:
        return self.create(connection, context, news)[1]

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        return

    def _build(self, connection: Connection, context: Context, news: Properties) -> Auth | None:
        """Builds it; returns the credentials that were given for its registry."""
        settings = news.get("build") or {}
        folder, dockerfile = place(settings)
        name = news["imageName"]
        auth = credentials(connection, name, news.get("registry") or {})
        cached = (settings.get("cacheFrom") or {}).get("images") or []
        others = [connection.auth_for(images.registry_of(image)) for image in (*cached, *_bases(dockerfile))]
        build = Build(
            tag=name,
            context=folder,
            dockerfile=dockerfile,
            arguments=settings.get("args") or {},
            target=settings.get("target"),
            platform=settings.get("platform"),
            network=settings.get("network"),
            hosts=settings.get("addHosts") or [],
            cache_from=cached,
            buildkit=settings.get("builderVersion") != "BuilderV1",
        )
        run(build, connection, [found for found in (*others, auth) if found is not None], context)
        return auth


def place(build: Properties) -> tuple[str, str]:
    """The folder and the Dockerfile of a build."""
    folder = build.get("context") or "."
    return folder, build.get("dockerfile") or os.path.join(folder, "Dockerfile")  # noqa: PTH118 - `./` stays


def credentials(connection: Connection, image: str, registry: Properties) -> Auth | None:
    """The credentials for the registry of `image`: the program's, else those of the configuration.

    Raises ResourceError.
    """
    host = host_of(registry.get("server") or "") or images.registry_of(image)
    username, password = registry.get("username"), registry.get("password")
    if bool(username) != bool(password):
        raise ResourceError(f"registry of {image}: username and password go together")
    if username and password:
        return Auth(host, username, password)
    return connection.auth_for(host)


def _problem(folder: str, dockerfile: str) -> Failure | None:
    if not Path(folder).is_dir():
        return Failure("build.context", f"there is no folder {folder}")
    if Path(dockerfile).is_file():
        return None
    inside = Path(folder, dockerfile)
    hint = f"; dockerfile counts from the program's folder: try {inside}" if inside.is_file() else ""
    return Failure("build.dockerfile", f"there is no file {dockerfile}{hint}")


def _name_problems(news: Properties) -> list[Failure]:
    name = news["imageName"]
    if name is UNKNOWN or news.get("skipPush") or images.registry_of(name):
        return []
    return [Failure("imageName", f"{name} names no registry to push to, as in docker.io/{name}; or set skipPush")]


def _bases(dockerfile: str) -> list[str]:
    """The images that a Dockerfile starts from, as far as they are written out."""
    lines = [line.split() for line in Path(dockerfile).read_text(errors="replace").splitlines()]
    sources = [line[1:] for line in lines if line and line[0].upper() == "FROM"]
    return [word for words in sources for word in words if not word.startswith("--")]
