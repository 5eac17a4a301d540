"""From the inputs of docker.Container to what the engine is asked for. Pure, but for files that are uploaded."""

from __future__ import annotations

import base64
import io
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from airgap.docker import durations
from airgap.docker.network import labels_to_engine
from provider.resource import ResourceError
from provider.values import Properties

MIB = 1024 * 1024


def request_of(news: Properties) -> dict[str, Any]:
    """The body of the engine's `containers/create`."""
    ports, bindings = _ports(news.get("ports"))
    volumes, binds, volumes_from = _volumes(news.get("volumes"))
    config = {
        "Image": news["image"],
        "Hostname": news.get("hostname"),
        "Domainname": news.get("domainname"),
        "Tty": news.get("tty"),
        "OpenStdin": news.get("stdinOpen"),
        "Env": sorted(news.get("envs") or []),
        "Cmd": news.get("command"),
        "Entrypoint": news.get("entrypoints"),
        "User": news.get("user"),
        "WorkingDir": news.get("workingDir"),
        "Labels": labels_to_engine(news.get("labels")),
        "StopSignal": news.get("stopSignal"),
        "StopTimeout": news.get("stopTimeout"),
        "Healthcheck": _healthcheck(news.get("healthcheck")),
        "ExposedPorts": ports,
        "Volumes": volumes,
    }
    host = {
        **resources_of(news),
        "Binds": binds,
        "VolumesFrom": volumes_from,
        "PortBindings": bindings,
        "NetworkMode": news.get("networkMode"),
        "RestartPolicy": restart_policy_of(news),
        "AutoRemove": news.get("rm"),
        "Privileged": news.get("privileged"),
        "PublishAllPorts": news.get("publishAllPorts"),
        "ReadonlyRootfs": news.get("readOnly"),
        "CapAdd": sorted((news.get("capabilities") or {}).get("adds") or []),
        "CapDrop": sorted((news.get("capabilities") or {}).get("drops") or []),
        "CgroupParent": news.get("cgroupParent"),
        "CgroupnsMode": news.get("cgroupnsMode"),
        "Dns": news.get("dns"),
        "DnsOptions": news.get("dnsOpts"),
        "DnsSearch": news.get("dnsSearches"),
        "ExtraHosts": [f"{host['host']}:{host['ip']}" for host in news.get("hosts") or []],
        "GroupAdd": news.get("groupAdds"),
        "IpcMode": news.get("ipcMode"),
        "PidMode": news.get("pidMode"),
        "UsernsMode": news.get("usernsMode"),
        "Runtime": news.get("runtime"),
        "SecurityOpt": news.get("securityOpts"),
        "StorageOpt": news.get("storageOpts"),
        "Sysctls": news.get("sysctls"),
        "Tmpfs": news.get("tmpfs"),
        "ShmSize": (news.get("shmSize") or 0) * MIB,
        "Init": bool(news.get("init")),
        "LogConfig": _log(news),
        "Mounts": [_mount(mount) for mount in news.get("mounts") or []],
        "Devices": [_device(device) for device in news.get("devices") or []],
        "DeviceRequests": _device_requests(news),
        "NanoCpus": _nano_cpus(news.get("cpus")),
        "Ulimits": [
            {"Name": ulimit["name"], "Soft": ulimit["soft"], "Hard": ulimit["hard"]}
            for ulimit in news.get("ulimits") or []
        ],
    }
    return {**_given(config), "HostConfig": {**_given(host), "Init": host["Init"]}}


def resources_of(news: Properties) -> dict[str, Any]:
    """The limits that can change while the container runs."""
    swap = news.get("memorySwap") or 0
    return {
        "CpuShares": news.get("cpuShares") or 0,
        "CpuPeriod": news.get("cpuPeriod") or 0,
        "CpuQuota": news.get("cpuQuota") or 0,
        "CpusetCpus": news.get("cpuSet") or "",
        "Memory": (news.get("memory") or 0) * MIB,
        "MemoryReservation": (news.get("memoryReservation") or 0) * MIB,
        "MemorySwap": swap * MIB if swap > 0 else swap,
    }


def restart_policy_of(news: Properties) -> dict[str, Any]:
    """When the engine starts the container again by itself."""
    return {"Name": news.get("restart") or "no", "MaximumRetryCount": news.get("maxRetryCount") or 0}


def endpoint_of(network: Properties) -> dict[str, Any]:
    """How the container is in one of its networks."""
    addresses = {"IPv4Address": network.get("ipv4Address"), "IPv6Address": network.get("ipv6Address")}
    return {"Aliases": network.get("aliases") or [], "IPAMConfig": _given(addresses)}


def archive_of(upload: Properties) -> bytes:
    """The tar archive with one file to upload. Raises ResourceError."""
    given = [name for name in ("content", "contentBase64", "source") if upload.get(name)]
    if len(given) != 1:
        raise ResourceError(
            f"the upload of {upload['file']} needs exactly one of content, contentBase64 and source; it has "
            f"{' and '.join(given) or 'none'}"
        )
    try:
        if upload.get("source"):
            content = Path(upload["source"]).read_bytes()
        elif upload.get("contentBase64"):
            content = base64.b64decode(upload["contentBase64"], validate=True)
        else:
            content = upload["content"].encode()
    except (OSError, ValueError) as error:
        raise ResourceError(f"the file to upload as {upload['file']} cannot be read: {error}") from error
    entry = tarfile.TarInfo(upload["file"].lstrip("/"))
    entry.size = len(content)
    entry.mode = (
        int(upload["permissions"], 8) if upload.get("permissions") else 0o744 if upload.get("executable") else 0o644
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", [], {}) and value is not False}


def _ports(ports: list[Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    exposed: dict[str, Any] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports or []:
        name = f"{port['internal']}/{port.get('protocol') or 'tcp'}"
        exposed[name] = {}
        external = port.get("external")
        bindings.setdefault(name, []).append(
            {"HostIp": port.get("ip") or "", "HostPort": str(external) if external else "0"}
        )
    return exposed, bindings


def _volumes(volumes: list[Any] | None) -> tuple[dict[str, Any], list[str], list[str]]:
    paths: dict[str, Any] = {}
    binds, others = [], []
    for volume in volumes or []:
        path, other = volume.get("containerPath"), volume.get("fromContainer")
        if bool(path) == bool(other):
            raise ResourceError("an entry of volumes needs either containerPath or fromContainer")
        source = volume.get("volumeName") or volume.get("hostPath")
        if other:
            others.append(other)
            continue
        paths[path] = {}
        if source:
            binds.append(f"{source}:{path}:{'ro' if volume.get('readOnly') else 'rw'}")
    return paths, binds, others


def _healthcheck(healthcheck: Properties | None) -> dict[str, Any] | None:
    if not healthcheck:
        return None
    try:
        return _given(
            {
                "Test": healthcheck.get("tests"),
                "Interval": durations.nanoseconds(healthcheck.get("interval") or ""),
                "Timeout": durations.nanoseconds(healthcheck.get("timeout") or ""),
                "StartPeriod": durations.nanoseconds(healthcheck.get("startPeriod") or ""),
                "StartInterval": durations.nanoseconds(healthcheck.get("startInterval") or ""),
                "Retries": healthcheck.get("retries"),
            }
        )
    except ValueError as error:
        raise ResourceError(f"healthcheck: {error}") from error


def _log(news: Properties) -> dict[str, Any] | None:
    log = _given({"Type": news.get("logDriver"), "Config": news.get("logOpts")})
    return log or None


def _mount(mount: Properties) -> dict[str, Any]:
    result = {
        "Type": mount["type"],
        "Target": mount["target"],
        "Source": mount.get("source"),
        "ReadOnly": mount.get("readOnly"),
    }
    bind, volume, tmpfs = mount.get("bindOptions"), mount.get("volumeOptions"), mount.get("tmpfsOptions")
    if bind and mount["type"] == "bind":
        result["BindOptions"] = _given({"Propagation": bind.get("propagation")})
    if volume and mount["type"] == "volume":
        driver = _given({"Name": volume.get("driverName"), "Options": volume.get("driverOptions")})
        labels = labels_to_engine(volume.get("labels"))
        result["VolumeOptions"] = _given({"NoCopy": volume.get("noCopy"), "Labels": labels, "DriverConfig": driver})
    if tmpfs and mount["type"] == "tmpfs":
        result["TmpfsOptions"] = _given({"SizeBytes": tmpfs.get("sizeBytes"), "Mode": tmpfs.get("mode")})
    return {name: value for name, value in result.items() if value not in (None, "")}


def _device(device: Properties) -> dict[str, str]:
    return {
        "PathOnHost": device["hostPath"],
        "PathInContainer": device.get("containerPath") or device["hostPath"],
        "CgroupPermissions": device.get("permissions") or "rwm",
    }


def _device_requests(news: Properties) -> list[dict[str, Any]]:
    requests = [
        _given(
            {
                "Driver": request.get("driver"),
                "Count": request.get("count"),
                "DeviceIDs": request.get("deviceIds"),
                "Capabilities": [request["capabilities"]] if request.get("capabilities") else [],
                "Options": request.get("options"),
            }
        )
        for request in news.get("deviceRequests") or []
    ]
    if news.get("gpus"):
        if news["gpus"] != "all":
            raise ResourceError(f"gpus can only be `all`, not {news['gpus']}; deviceRequests names single devices")
        requests.append({"Count": -1, "Capabilities": [["gpu"]]})
    return requests


def _nano_cpus(cpus: str | None) -> int:
    try:
        return int(Decimal(cpus) * 10**9) if cpus else 0
    except ArithmeticError:
        raise ResourceError(f"cpus must be a number such as 0.5, not {cpus}") from None
