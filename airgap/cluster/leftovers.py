"""What a cluster's programs leave on this machine when they end or are killed: found here, and removed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from airgap.cluster.place import CONTAINERD_SOCKET, NETWORK, RUN, Place
from airgap.cluster.processes import kill_all
from airgap.cluster.programs import debian

CGROUPS = Path("/sys/fs/cgroup")
MADE_BY_KUBELET = (Path("/var/lib/kubelet"), Path("/var/log/containers"))
"""Places that the kubelet uses wherever its own folder is."""
CNI_STATE = Path("/var/lib/cni")
SHIM_SOCKETS = Path("/run/containerd/s")


def note_made(place: Place) -> None:
    """Notes, once, which of the kubelet's places are not there yet: those are removed in the end."""
    noted = place.notes / "made"
    if not noted.exists():
        fresh = noted.with_suffix(".new")
        fresh.write_text("".join(f"{path}\n" for path in MADE_BY_KUBELET if not path.exists()))
        fresh.replace(noted)


def remove(place: Place) -> None:
    """Ends the processes of pods, unmounts, removes control groups and files. For when the daemons have ended."""
    sandboxes = _sandboxes(place)
    kill_all(_processes)
    _unmount(place)
    for group in _cgroups():
        _remove_cgroup(group)
    noted = place.notes / "made"
    if noted.exists():
        for path in noted.read_text().splitlines():
            shutil.rmtree(path, ignore_errors=True)
        noted.unlink()
    _remove_cni_state(sandboxes)
    _remove_empty(SHIM_SOCKETS, SHIM_SOCKETS.parent)


def found(place: Place) -> list[str]:
    """What is there: processes of pods, mounts, control groups."""
    processes = [f"process {pid}" for pid in _processes()]
    return processes + [f"mount {path}" for path in _mounts(place)] + [f"cgroup {path}" for path in _cgroups()]


def _processes() -> list[int]:
    """The shims of our containerd and what is in the control groups of pods."""
    pids = {int(line) for group in _cgroups() for file in group.rglob("cgroup.procs") for line in _lines(file)}
    return sorted(pids.union(_shims()))


def _shims() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if Path(words[0]).name == "containerd-shim-runc-v2" and str(CONTAINERD_SOCKET) in words:
            found.append(int(entry.name))
    return found


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:  # the group went while it was looked at
        return []


def _cgroups() -> list[Path]:
    """The control groups of pods, one in each hierarchy of version 1, one in all of version 2."""
    names = ("kubepods", "k8s.io")
    parents = [CGROUPS, *(path for path in CGROUPS.iterdir() if path.is_dir())] if CGROUPS.is_dir() else []
    return [parent / name for parent in parents for name in names if (parent / name).is_dir()]


def _remove_cgroup(group: Path) -> None:
    """Removes a control group with those in it, from the inside out. One that is in use stays, and is told later."""
    for path in sorted(group.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        if path.is_dir():
            _rmdir(path)
    _rmdir(group)


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:  # not empty, or gone: what stays is found by `found`
        return


def _mounts(place: Place) -> list[Path]:
    """What is mounted in our folders, the inner ones first. /proc/self/mounts writes a space as \\040."""
    ours = (RUN, place.kubelet, place.containerd)
    return sorted((p for p in _mount_points() if any(p.is_relative_to(o) for o in ours)), key=lambda p: -len(p.parts))


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there."""
    return path in _mount_points()


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [Path(line.split()[1].replace("\\040", " ")) for line in lines]


def _unmount(place: Place) -> None:
    umount = str(Path(debian("mount")).with_name("umount"))
    for path in _mounts(place):
        if subprocess.run([umount, str(path)], check=False, capture_output=True).returncode != 0:
            subprocess.run([umount, "--lazy", str(path)], check=False, capture_output=True)


def _sandboxes(place: Place) -> list[str]:
    """The ids of the pods that containerd knew."""
    folder = place.containerd / "io.containerd.grpc.v1.cri" / "sandboxes"
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _remove_cni_state(sandboxes: list[str]) -> None:
    """CNI remembers what it gave to a pod, below a folder that is everybody's: what is our pods' goes."""
    for folder in (CNI_STATE / "results", CNI_STATE / "cache" / "results"):
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            if file.name.startswith(f"{NETWORK}-") or any(sandbox in file.name for sandbox in sandboxes):
                file.unlink()
    cache = CNI_STATE / "cache"
    _remove_empty(cache / "results", cache, CNI_STATE / "results", CNI_STATE / "networks", CNI_STATE)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        _rmdir(folder)
