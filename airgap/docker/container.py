"""docker.Container: a container of the engine."""

from __future__ import annotations

import time
from typing import Any, ClassVar
from urllib.parse import quote

from airgap.docker import images, sdk, waiting
from airgap.docker.bridged import Bridged
from airgap.docker.connection import Connection, EngineError, explained
from airgap.docker.container_facts import facts_of
from airgap.docker.container_request import archive_of, endpoint_of, request_of, resources_of, restart_policy_of
from airgap.docker.container_schema import CONTAINER
from airgap.docker.schema import Schema
from provider.resource import Context
from provider.values import Properties

_POLL_SECONDS = 0.1
_LOG_LINES = 20
_UPDATED_IN_PLACE = (
    "cpuPeriod",
    "cpuQuota",
    "cpuSet",
    "cpuShares",
    "maxRetryCount",
    "memory",
    "memoryReservation",
    "memorySwap",
    "restart",
)


class Container(Bridged):
    """Limits and the restart policy change in place; nearly everything else needs a new one, the old one gone first."""

    token: ClassVar[str] = "docker:index/container:Container"
    schema: ClassVar[Schema] = CONTAINER

    def create(self, connection: Connection, context: Context, news: Properties) -> tuple[str, Properties]:
        name = news["name"]
        images.find(connection, news["image"], news.get("platform"))
        try:
            api: Any = connection.api
            container = api.create_container_from_config(request_of(news), name, news.get("platform"))["Id"]
        except sdk.APIError as error:
            raise explained(f"the container {name} cannot be made", error) from error
        try:
            logs = self._start(connection, context, container, news)
            known = {**news, "containerLogs": logs} if logs is not None else news
            return self.made(connection, container, known)
        except BaseException:
            # What did not come up would only be in the way of the next try, which has a name to use again.
            self._remove(connection, container, name, volumes=True)
            raise

    def _start(self, connection: Connection, context: Context, container: str, news: Properties) -> str | None:
        """Connects, fills and starts it; returns its output where the program waits for its end and wants that."""
        api, name = connection.api, news["name"]
        try:
            self._join(connection, container, news)
            for upload in news.get("uploads") or []:
                api.put_archive(container, "/", archive_of(upload))
            if not news.get("start", True):
                return None
            api.start(container)
        except sdk.APIError as error:
            raise explained(f"the container {name} cannot be started", error) from error
        if news.get("attach"):
            api.wait(container)
            return api.logs(container).decode(errors="replace") if news.get("logs") else None
        if news.get("mustRun", True):
            self._await_running(connection, context, container, news)
        if news.get("wait"):
            self._await_healthy(connection, context, container, news)
        return None

    def _join(self, connection: Connection, container: str, news: Properties) -> None:
        networks = news.get("networksAdvanced") or []
        if not networks:
            return
        try:
            connection.api.disconnect_container_from_network(container, "bridge")
        except sdk.APIError as error:
            if "is not connected to" not in str(error.explanation):
                raise
        for network in networks:
            data = {"Container": container, "EndpointConfig": endpoint_of(network)}
            connection.post(f"/networks/{quote(network['name'])}/connect", data)

    def _await_running(self, connection: Connection, context: Context, container: str, news: Properties) -> None:
        limit = (news.get("containerReadRefreshTimeoutMilliseconds") or 15000) / 1000
        deadline = time.monotonic() + limit
        while not context.cancelled.is_set():
            state = connection.api.inspect_container(container)["State"]
            if state["Running"]:
                return
            if state["Status"] in {"exited", "dead"} or time.monotonic() > deadline:
                raise EngineError(_ended(connection, container, news["name"], state))
            time.sleep(_POLL_SECONDS)

    def _await_healthy(self, connection: Connection, context: Context, container: str, news: Properties) -> None:
        limit = news.get("waitTimeout") or 60
        deadline = time.monotonic() + limit
        while not context.cancelled.is_set():
            state = connection.api.inspect_container(container)["State"]
            health = state.get("Health")
            if health is None:
                raise EngineError(f"the container {news['name']} has no health check to wait for: set healthcheck")
            if health["Status"] == "healthy":
                return
            if not state["Running"]:
                raise EngineError(_ended(connection, container, news["name"], state))
            if time.monotonic() > deadline:
                last = (health.get("Log") or [{}])[-1].get("Output", "").strip()
                raise EngineError(
                    f"the container {news['name']} is not healthy after {limit} s; its last check said: {last or '-'}"
                )
            time.sleep(_POLL_SECONDS)

    def find(self, connection: Connection, resource_id: str, state: Properties) -> tuple[str, Properties] | None:
        try:
            found = connection.api.inspect_container(resource_id)
        except sdk.NotFound:
            return None
        except sdk.APIError as error:
            raise explained(f"the container {state.get('name', resource_id)} cannot be looked at", error) from error
        facts = facts_of(found)
        # One that stopped although it must run is a difference to the program, so that the next `up` mends it.
        if not found["State"]["Running"] and state.get("mustRun") and state.get("start", True):
            facts["mustRun"] = False
        if state.get("image") and _same_image(connection, state["image"], found):
            facts["image"] = state["image"]
        return found["Id"], facts

    def update(
        self, connection: Connection, context: Context, resource_id: str, state: Properties, news: Properties
    ) -> Properties:
        changed = [name for name in _UPDATED_IN_PLACE if (state.get(name) or None) != (news.get(name) or None)]
        if changed:
            data = {**resources_of(news), "RestartPolicy": restart_policy_of(news)}
            try:
                connection.post(f"/containers/{resource_id}/update", data)
            except sdk.APIError as error:
                raise explained(f"the container {news['name']} cannot be changed", error) from error
        if state.get("mustRun") is False and news.get("mustRun") and news.get("start", True):
            self._run_again(connection, context, resource_id, news)
        return super().update(connection, context, resource_id, state, news)

    def _run_again(self, connection: Connection, context: Context, container: str, news: Properties) -> None:
        """Starts one that was found stopped, which would be found so again."""
        try:
            connection.api.start(container)
        except sdk.APIError as error:
            raise explained(f"the container {news['name']} cannot be started", error) from error
        self._await_running(connection, context, container, news)

    def delete(self, connection: Connection, resource_id: str, state: Properties) -> None:
        name = state.get("name", resource_id)
        grace = state.get("destroyGraceSeconds") or 0
        if grace > 0 and not state.get("attach"):
            try:
                connection.api.stop(resource_id, timeout=grace)
            except sdk.NotFound:
                return
            except sdk.APIError as error:
                raise explained(f"the container {name} cannot be stopped", error) from error
        self._remove(connection, resource_id, name, volumes=state.get("removeVolumes", True))

    def _remove(self, connection: Connection, container: str, name: str, *, volumes: bool) -> None:
        waiting.remove(
            lambda: connection.api.remove_container(container, v=volumes, force=True),
            f"the container {name}",
            "is already in progress",
        )


def _same_image(connection: Connection, wanted: str, found: dict[str, Any]) -> bool:
    """Whether a container was made from the image `wanted`, by that name or by its id."""
    return wanted in {found["Config"]["Image"], found["Image"]}


def _ended(connection: Connection, container: str, name: str, state: dict[str, Any]) -> str:
    """Why a container does not run, with its last lines."""
    cause = f"ended at once with exit code {state.get('ExitCode')}"
    if state.get("OOMKilled"):
        cause += ", killed because its memory limit was reached"
    if state.get("Error"):
        cause += f" ({state['Error']})"
    output = connection.api.logs(container, tail=_LOG_LINES).decode(errors="replace").strip()
    lines = "".join(f"\n    {line}" for line in output.splitlines()) or "\n    (nothing)"
    return f"the container {name} {cause}. What it wrote last:{lines}"
