"""The properties of docker.Container."""

from __future__ import annotations

from airgap.docker.schema import (
    LABELS,
    Schema,
    an_object,
    boolean,
    integer,
    mapping,
    object_set,
    objects,
    string,
    string_set,
    strings,
)

_HEALTHCHECK = {
    "interval": string(default="0s"),
    "retries": integer(default=0),
    "startInterval": string(default="0s"),
    "startPeriod": string(default="0s"),
    "tests": strings(),
    "timeout": string(default="0s"),
}
_MOUNT = {
    "bindOptions": an_object({"propagation": string()}),
    "readOnly": boolean(),
    "source": string(),
    "target": string(required=True),
    "tmpfsOptions": an_object({"mode": integer(), "sizeBytes": integer()}),
    "type": string(required=True, choices=("bind", "volume", "tmpfs")),
    "volumeOptions": an_object(
        {
            "driverName": string(),
            "driverOptions": mapping(),
            "labels": object_set(LABELS),
            "noCopy": boolean(),
        }
    ),
}
_NETWORK = {
    "aliases": string_set(),
    "ipv4Address": string(),
    "ipv6Address": string(),
    "name": string(required=True),
}
_PORT = {
    "external": integer(computed=True),
    "internal": integer(required=True),
    "ip": string(default="0.0.0.0"),  # noqa: S104 - the official plugin's default
    "protocol": string(default="tcp", choices=("tcp", "udp", "sctp")),
}
_UPLOAD = {
    "content": string(),
    "contentBase64": string(),
    "executable": boolean(default=False),
    "file": string(required=True),
    "permissions": string(),
    "source": string(),
    "sourceHash": string(),
}
_VOLUME = {
    "containerPath": string(),
    "fromContainer": string(),
    "hostPath": string(),
    "readOnly": boolean(),
    "volumeName": string(),
}
_DEVICE = {"containerPath": string(), "hostPath": string(required=True), "permissions": string()}
_DEVICE_REQUEST = {
    "capabilities": strings(),
    "count": integer(),
    "deviceIds": strings(),
    "driver": string(),
    "options": mapping(),
}
_HOST = {"host": string(required=True), "ip": string(required=True)}
_ULIMIT = {"hard": integer(required=True), "name": string(required=True), "soft": integer(required=True)}

CONTAINER = Schema(
    inputs={
        "attach": boolean(default=False, replaces=False),
        "capabilities": an_object({"adds": string_set(), "drops": string_set()}),
        "cgroupParent": string(),
        "cgroupnsMode": string(choices=("host", "private")),
        "command": strings(computed=True),
        "containerReadRefreshTimeoutMilliseconds": integer(default=15000, replaces=False),
        "cpuPeriod": integer(replaces=False),
        "cpuQuota": integer(replaces=False),
        "cpuSet": string(replaces=False),
        "cpuShares": integer(replaces=False),
        "cpus": string(),
        "destroyGraceSeconds": integer(replaces=False),
        "deviceRequests": objects(_DEVICE_REQUEST),
        "devices": object_set(_DEVICE),
        "dns": string_set(),
        "dnsOpts": string_set(),
        "dnsSearches": string_set(),
        "domainname": string(),
        "entrypoints": strings(computed=True),
        "envs": string_set(computed=True),
        "gpus": string(),
        "groupAdds": string_set(),
        "healthcheck": an_object(_HEALTHCHECK, computed=True, replaces=False),
        "hostname": string(computed=True),
        "hosts": object_set(_HOST),
        "image": string(required=True),
        "init": boolean(computed=True, replaces=False),
        "ipcMode": string(computed=True),
        "labels": object_set(LABELS, computed=True),
        "logDriver": string(computed=True),
        "logOpts": mapping(),
        "logs": boolean(default=False, replaces=False),
        "maxRetryCount": integer(replaces=False),
        "memory": integer(replaces=False),
        "memoryReservation": integer(replaces=False),
        "memorySwap": integer(replaces=False),
        "mounts": object_set(_MOUNT),
        "mustRun": boolean(default=True, replaces=False),
        "name": string(),
        "networkMode": string(default="bridge"),
        "networksAdvanced": object_set(_NETWORK),
        "pidMode": string(),
        "platform": string(),
        "ports": objects(_PORT),
        "privileged": boolean(),
        "publishAllPorts": boolean(),
        "readOnly": boolean(default=False),
        "removeVolumes": boolean(default=True, replaces=False),
        "restart": string(default="no", replaces=False, choices=("no", "on-failure", "always", "unless-stopped")),
        "rm": boolean(default=False, replaces=False),
        "runtime": string(computed=True),
        "securityOpts": string_set(computed=True),
        "shmSize": integer(computed=True),
        "start": boolean(default=True, replaces=False),
        "stdinOpen": boolean(default=False),
        "stopSignal": string(computed=True),
        "stopTimeout": integer(computed=True),
        "storageOpts": mapping(),
        "sysctls": mapping(),
        "tmpfs": mapping(replaces=False),
        "tty": boolean(default=False),
        "ulimits": object_set(_ULIMIT),
        "uploads": object_set(_UPLOAD),
        "user": string(blank_is_unset=True),
        "usernsMode": string(),
        "volumes": object_set(_VOLUME),
        "wait": boolean(default=False, replaces=False),
        "waitTimeout": integer(default=60, replaces=False),
        "workingDir": string(blank_is_unset=True),
    },
    outputs=("bridge", "containerLogs", "exitCode", "networkDatas"),
    version=2,
    delete_before_replace=True,
)
