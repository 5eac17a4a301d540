"""From what the engine says of a container to the state of docker.Container. Pure."""

from __future__ import annotations

from typing import Any

from airgap.docker import durations
from airgap.docker.container_request import MIB
from airgap.docker.network import labels_from_engine
from provider.values import Properties


def facts_of(found: dict[str, Any]) -> Properties:
    """What the official plugin reads back. Environment and labels it does not: they are mixed with the image's."""
    config, host = found["Config"], found["HostConfig"]
    networks = found.get("NetworkSettings") or {}
    facts: Properties = {
        **_limits(host),
        "bridge": networks.get("Bridge") or "",
        "command": config.get("Cmd") or [],
        "devices": [_device(device) for device in host.get("Devices") or []],
        "dns": host.get("Dns") or [],
        "dnsOpts": host.get("DnsOptions") or [],
        "dnsSearches": host.get("DnsSearch") or [],
        "domainname": config.get("Domainname") or "",
        "entrypoints": config.get("Entrypoint") or [],
        "groupAdds": host.get("GroupAdd") or [],
        "hostname": config.get("Hostname") or "",
        "hosts": [_host(entry) for entry in host.get("ExtraHosts") or []],
        "image": config["Image"],
        "init": bool(host.get("Init")),
        "ipcMode": host.get("IpcMode") or "",
        "logDriver": (host.get("LogConfig") or {}).get("Type") or "",
        "logOpts": (host.get("LogConfig") or {}).get("Config") or {},
        "maxRetryCount": (host.get("RestartPolicy") or {}).get("MaximumRetryCount") or 0,
        "mounts": [_mount(mount) for mount in host.get("Mounts") or []],
        "name": found["Name"].lstrip("/"),
        "networkDatas": [_network(name, network) for name, network in sorted((networks.get("Networks") or {}).items())],
        "networkMode": host.get("NetworkMode") or "",
        "pidMode": host.get("PidMode") or "",
        "ports": _ports(networks.get("Ports")),
        "privileged": bool(host.get("Privileged")),
        "publishAllPorts": bool(host.get("PublishAllPorts")),
        "readOnly": bool(host.get("ReadonlyRootfs")),
        "restart": (host.get("RestartPolicy") or {}).get("Name") or "no",
        "rm": bool(host.get("AutoRemove")),
        "runtime": host.get("Runtime") or "",
        "securityOpts": host.get("SecurityOpt") or [],
        "shmSize": (host.get("ShmSize") or 0) // MIB,
        "stdinOpen": bool(config.get("OpenStdin")),
        "stopSignal": config.get("StopSignal") or "",
        "stopTimeout": config.get("StopTimeout") or 0,
        "storageOpts": host.get("StorageOpt") or {},
        "sysctls": host.get("Sysctls") or {},
        "tmpfs": host.get("Tmpfs") or {},
        "tty": bool(config.get("Tty")),
        "ulimits": [
            {"name": ulimit["Name"], "soft": ulimit["Soft"], "hard": ulimit["Hard"]}
            for ulimit in host.get("Ulimits") or []
        ],
        "user": config.get("User") or "",
        "usernsMode": host.get("UsernsMode") or "",
        "workingDir": config.get("WorkingDir") or "",
    }
    if host.get("CapAdd") or host.get("CapDrop"):
        facts["capabilities"] = {"adds": host.get("CapAdd") or [], "drops": host.get("CapDrop") or []}
    if config.get("Healthcheck"):
        facts["healthcheck"] = _healthcheck(config["Healthcheck"])
    if not found["State"]["Running"]:
        facts["exitCode"] = found["State"].get("ExitCode") or 0
    return facts


def _limits(host: dict[str, Any]) -> Properties:
    swap = host.get("MemorySwap") or 0
    return {
        "cpuPeriod": host.get("CpuPeriod") or 0,
        "cpuQuota": host.get("CpuQuota") or 0,
        "cpuSet": host.get("CpusetCpus") or "",
        "cpuShares": host.get("CpuShares") or 0,
        "memory": (host.get("Memory") or 0) // MIB,
        "memoryReservation": (host.get("MemoryReservation") or 0) // MIB,
        "memorySwap": swap // MIB if swap > 0 else swap,
    }


def _ports(ports: dict[str, Any] | None) -> list[Properties]:
    result = []
    for name in sorted(ports or {}, key=lambda name: (int(name.partition("/")[0]), name)):
        internal, _, protocol = name.partition("/")
        for binding in (ports or {})[name] or []:
            result.append(
                {
                    "external": int(binding["HostPort"]),
                    "internal": int(internal),
                    "ip": binding["HostIp"],
                    "protocol": protocol,
                }
            )
    return result


def _network(name: str, network: dict[str, Any]) -> Properties:
    return {
        "gateway": network.get("Gateway") or "",
        "globalIpv6Address": network.get("GlobalIPv6Address") or "",
        "globalIpv6PrefixLength": network.get("GlobalIPv6PrefixLen") or 0,
        "ipAddress": network.get("IPAddress") or "",
        "ipPrefixLength": network.get("IPPrefixLen") or 0,
        "ipv6Gateway": network.get("IPv6Gateway") or "",
        "macAddress": network.get("MacAddress") or "",
        "networkName": name,
    }


def _mount(mount: dict[str, Any]) -> Properties:
    result: Properties = {
        "readOnly": bool(mount.get("ReadOnly")),
        "source": mount.get("Source") or "",
        "target": mount["Target"],
        "type": mount["Type"],
    }
    if mount.get("BindOptions"):
        result["bindOptions"] = {"propagation": mount["BindOptions"].get("Propagation") or ""}
    volume = mount.get("VolumeOptions")
    if volume:
        driver = volume.get("DriverConfig") or {}
        result["volumeOptions"] = {
            "driverName": driver.get("Name") or "",
            "driverOptions": driver.get("Options") or {},
            "labels": labels_from_engine(volume.get("Labels")),
            "noCopy": bool(volume.get("NoCopy")),
        }
    tmpfs = mount.get("TmpfsOptions")
    if tmpfs:
        result["tmpfsOptions"] = {"mode": tmpfs.get("Mode") or 0, "sizeBytes": tmpfs.get("SizeBytes") or 0}
    return result


def _device(device: dict[str, Any]) -> Properties:
    return {
        "containerPath": device["PathInContainer"],
        "hostPath": device["PathOnHost"],
        "permissions": device["CgroupPermissions"],
    }


def _host(entry: str) -> Properties:
    host, _, ip = entry.partition(":")
    return {"host": host, "ip": ip}


def _healthcheck(healthcheck: dict[str, Any]) -> Properties:
    return {
        "interval": durations.written(healthcheck.get("Interval") or 0),
        "retries": healthcheck.get("Retries") or 0,
        "startInterval": durations.written(healthcheck.get("StartInterval") or 0),
        "startPeriod": durations.written(healthcheck.get("StartPeriod") or 0),
        "tests": healthcheck.get("Test") or [],
        "timeout": durations.written(healthcheck.get("Timeout") or 0),
    }
