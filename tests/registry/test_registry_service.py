"""A registry service on this machine: made, changed under load, found dead, filled up, cleaned, and removed."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from provider.content.watch import Watch
from provider.local.layout import write_json
from provider.registry.auth import Credentials
from provider.registry.client import Registry
from provider.registry.errors import RegistryDeniedError, RegistryFullError
from provider.registry_host import host, keeper, usage
from provider.registry_host.spec import Files, Spec
from provider.resource import ResourceError
from provider.values import UNKNOWN
from tests.registry.registry_process import DEADLINE, RegistryProcess, free_port
from tests.registry.service import Service, context, eventually, is_alive, run
from tests.registry.support import MANIFEST, MIB, content, manifest_of, put, read


def test_it_serves_whoever_has_the_generated_credentials(service: Service, name: str) -> None:
    state = service.up()
    assert state["address"] == f"127.0.0.1:{service.inputs['port']}"
    blob = content(MIB, seed=400)
    put(service.registry().repository(name), blob)
    assert read(service.registry().repository(name), blob.digest) == blob.data
    with pytest.raises(RegistryDeniedError):
        Registry(state["address"]).check()


def test_a_second_up_changes_nothing(service: Service) -> None:
    service.up()
    assert service.resource.diff(service.state, service.inputs) == []
    service.refresh()
    assert service.resource.diff(service.state, service.inputs) == []


def test_a_preview_touches_nothing(service: Service, tmp_path: Path) -> None:
    _, state = run(service.resource.create(context(preview=True), service.inputs))
    assert (state["address"], state["password"]) == (f"127.0.0.1:{service.inputs['port']}", UNKNOWN)
    assert list(tmp_path.iterdir()) == []


def test_secrets_lie_in_files_of_the_owner_alone_and_in_no_process_list(service: Service) -> None:
    state = service.up()
    for path in service.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert state["password"] not in (service.folder / "htpasswd").read_text()
    for pid in (service.status()["keeper"], service.status()["pid"]):
        for secret in Path(f"/proc/{pid}/cmdline"), Path(f"/proc/{pid}/environ"):
            assert state["password"].encode() not in secret.read_bytes()


def test_deleting_leaves_nothing(service: Service, tmp_path: Path) -> None:
    service.up()
    pids = [service.status()["keeper"], service.status()["pid"]]
    service.down()
    assert not any(map(is_alive, pids))
    assert list(tmp_path.iterdir()) == []
    service.down()


def test_the_credentials_stay_where_the_state_was_lost(service: Service) -> None:
    before = service.up()
    service.state = {}
    assert service.up() == before


def test_a_tier_changes_in_place_while_a_push_is_running(service: Service, name: str) -> None:
    service.up()
    first, second = content(4 * MIB, seed=410), content(16 * MIB, seed=411)
    put(service.registry().repository(name), first)
    before, halfway, errors = service.status()["pid"], threading.Event(), []

    class Slow:
        """Hands out the second half once the tier is being changed."""

        def __init__(self) -> None:
            self._at = 0

        def read(self, size: int = -1) -> bytes:
            if self._at >= second.size // 2:
                halfway.set()
            size = min(size, MIB)
            data = second.data[self._at : self._at + size]
            self._at += len(data)
            return data

        def seekable(self) -> bool:
            return False

        def close(self) -> None:
            pass

    def push() -> None:
        try:
            repository = service.registry().repository(name)
            repository.put_blob(second.digest, second.size, Slow)  # type: ignore[arg-type]
            repository.put_manifest("1", MANIFEST, manifest_of(first, second))
        except BaseException as error:
            errors.append(error)

    pusher = threading.Thread(target=push)
    pusher.start()
    halfway.wait(DEADLINE)
    state = service.up(tier="Standard", quotaBytes=128 * MIB, cpus=1, memoryBytes=512 * MIB)
    pusher.join()
    assert errors == []
    assert service.status()["pid"] != before
    repository = Registry(state["address"], Credentials(state["username"], state["password"])).repository(name)
    assert read(repository, first.digest) == first.data
    assert read(repository, second.digest) == second.data
    assert repository.tags() == ["1"]


def test_a_quota_changes_without_a_new_process(service: Service) -> None:
    service.up()
    before = service.status()["pid"]
    service.up(quotaBytes=32 * MIB)
    assert service.status()["pid"] == before


def test_a_quota_below_what_is_stored_is_refused_with_the_figures(service: Service, name: str) -> None:
    service.up()
    put(service.registry().repository(name), content(4 * MIB, seed=420))
    (failure,) = service.failures(quotaBytes=MIB)
    assert failure.property == "quotaBytes"
    assert "holds 4.0 MiB, and only 1.0 MiB would be allowed" in failure.reason


def test_a_full_registry_takes_nothing_more_and_goes_on_serving(service: Service, name: str) -> None:
    service.up(quotaBytes=4 * MIB)
    repository, small, large = service.registry().repository(name), content(MIB, seed=421), content(8 * MIB, seed=422)
    put(repository, small)
    with pytest.raises(RegistryFullError, match=r"\(8388608 bytes\).*has no room left"):
        put(repository, large)
    assert read(repository, small.digest) == small.data
    assert repository.delete_blob(small.digest)
    service.up(quotaBytes=64 * MIB)
    put(repository, large)


def test_a_registry_that_was_killed_is_started_again(service: Service, name: str) -> None:
    service.up()
    blob, pid = content(1000, seed=430), service.status()["pid"]
    put(service.registry().repository(name), blob)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: service.status().get("pid") not in (None, pid), "another process")
    assert read(service.registry().repository(name), blob.digest) == blob.data


def test_a_keeper_that_was_killed_is_found_by_refresh_and_started_by_up(service: Service, name: str) -> None:
    service.up()
    blob, status = content(1000, seed=431), service.status()
    put(service.registry().repository(name), blob)
    os.kill(status["keeper"], signal.SIGKILL)
    eventually(lambda: not is_alive(status["pid"]), "the registry ends with its keeper")
    found = service.refresh()
    assert found is not None
    assert found["state"] == "Stopped"
    service.up()
    assert service.state["state"] == "Serving"
    assert read(service.registry().repository(name), blob.digest) == blob.data


@pytest.mark.parametrize("changed", [{}, {"quotaBytes": 65 * MIB}])
def test_a_keeper_that_has_not_told_of_itself_yet_is_found(service: Service, changed: dict[str, Any]) -> None:
    service.up()
    keeper = service.status()["keeper"]
    # As after an `up` that was killed while its keeper started.
    Files(service.folder).status.unlink()
    service.refresh()
    service.up(**changed)
    assert service.status()["keeper"] == keeper
    assert service.state["state"] == "Serving"


def test_a_keeper_that_could_not_write_to_its_lock_is_found(service: Service) -> None:
    service.up()
    keeper = service.status()["keeper"]
    Files(service.folder).lock.write_text("")
    service.up(quotaBytes=65 * MIB)
    assert service.status()["keeper"] == keeper


def test_what_an_earlier_keeper_told_is_not_taken_for_news(service: Service) -> None:
    service.up()
    told = Files(service.folder).status.read_bytes()
    earlier = service.status()["keeper"]
    os.kill(earlier, signal.SIGTERM)
    eventually(lambda: not is_alive(earlier), "the keeper ends")
    Files(service.folder).status.write_bytes(told)
    service.refresh()
    service.up()
    assert service.status()["keeper"] != earlier
    service.registry().check()


def test_a_registry_that_ends_since_a_destroy_that_was_killed_is_started_again(service: Service, name: str) -> None:
    service.up()
    keeper = service.status()["keeper"]
    with closing(half_of_an_upload(service, name)) as connection, ThreadPoolExecutor() as pool:
        os.kill(keeper, signal.SIGTERM)
        eventually(lambda: not listens(service), "it takes no more connections, and waits for the upload")
        found = service.refresh()
        assert found is not None
        assert found["state"] == "Ending"
        up = pool.submit(service.up)
        connection.close()
        up.result(DEADLINE)
    assert service.status()["keeper"] != keeper
    service.registry().check()


def half_of_an_upload(service: Service, name: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(service.state["address"], timeout=DEADLINE)
    pair = f"{service.state['username']}:{service.state['password']}"
    headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    connection.request("POST", f"/v2/{name}/blobs/uploads/", headers={**headers, "Content-Length": "0"})
    answer = connection.getresponse()
    answer.read()
    location = urlsplit(answer.headers["Location"])
    connection.request("PATCH", f"{location.path}?{location.query}", b"half", {**headers, "Content-Length": "8"})
    eventually(lambda: list(Files(service.folder).data.rglob("_uploads/*/data")), "it has begun")
    return connection


def listens(service: Service) -> bool:
    try:
        socket.create_connection(("127.0.0.1", service.inputs["port"]), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_service_whose_folder_is_gone_is_made_again(service: Service) -> None:
    service.up()
    host.remove(service.folder, Watch())
    assert service.refresh() is None
    service.up()
    service.registry().check()


def test_a_keeper_whose_folder_was_removed_ends(service: Service) -> None:
    service.up()
    pids = [service.status()["keeper"], service.status()["pid"]]
    shutil.rmtree(service.folder)
    eventually(lambda: not any(map(is_alive, pids)), "keeper and registry have ended")


def test_a_port_that_somebody_has_is_refused_by_name(service: Service, running: RegistryProcess) -> None:
    (failure,) = service.failures(port=running.port)
    assert failure.property == "port"
    assert f"port {running.port} is held by docker-registry" in failure.reason


def test_a_port_can_be_changed(service: Service) -> None:
    service.up()
    service.up(port=free_port())
    service.registry().check()


def test_a_registry_that_cannot_start_is_told_with_its_words(service: Service) -> None:
    service.folder.mkdir(parents=True)
    (service.folder / "data").write_text("in the way")
    with pytest.raises(ResourceError, match=r"the registry on 127\.0\.0\.1:\d+ does not serve .*File exists"):
        run(service.resource.create(context(), service.inputs))


def test_a_machine_without_a_registry_program_is_told_what_to_install(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (failure,) = service.failures()
    assert "apt-get install --no-install-recommends docker-registry" in failure.reason


def test_a_registry_program_that_fails_is_told_with_its_words(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "registry"
    program.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setattr(host, "program", lambda: str(program))
    with pytest.raises(ResourceError, match=r"does not serve \(Failing\): .*no such luck"):
        run(service.resource.create(context(), service.inputs))


@pytest.mark.parametrize("wrong", [{"path": "registry"}, {"port": 0}, {"quotaBytes": 0}, {"retentionDays": -1}])
def test_what_cannot_be_is_refused(service: Service, wrong: dict[str, Any]) -> None:
    assert [failure.property for failure in service.failures(**wrong)] == list(wrong)


# --- cleaning


def test_what_nothing_refers_to_is_removed_and_what_is_named_stays(service: Service, name: str) -> None:
    """With a keeper's own steps, without its waiting."""
    service.up()
    repository = service.registry().repository(name)
    kept, dropped, listed = content(1000, seed=440), content(1000, seed=441), content(1000, seed=442)
    for blob in (kept, dropped, listed):
        put(repository, blob)
    stays = repository.put_manifest("1", MANIFEST, manifest_of(kept))
    repository.put_manifest("2", MANIFEST, manifest_of(dropped))
    child = manifest_of(listed)
    child_digest = repository.put_manifest("child", MANIFEST, child)
    descriptor = {"mediaType": MANIFEST, "digest": child_digest, "size": len(child)}
    index_type = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": index_type, "manifests": [descriptor]}
    repository.put_manifest("all", index_type, json.dumps(index).encode())
    goes = repository.put_manifest("2", MANIFEST, manifest_of(kept, dropped))
    repository.put_manifest("2", MANIFEST, manifest_of(kept))
    repository.put_manifest("child", MANIFEST, manifest_of(kept))
    os.kill(service.status()["keeper"], signal.SIGTERM)
    eventually(lambda: not host.is_running(service.folder), "the keeper has ended")
    assert usage.drop_untagged(Files(service.folder).data, before=0.0) == []
    gone = usage.drop_untagged(Files(service.folder).data, before=time.time() + 60)
    assert f"{name}@{goes}" in gone
    assert f"{name}@{stays}" not in gone
    assert f"{name}@{child_digest}" not in gone
    keeper.Keeper(service.folder)._collect()
    service.refresh()
    service.up()
    assert [repository.has_blob(blob.digest) for blob in (kept, dropped, listed)] == [True, False, True]
    put(repository, dropped)
    assert read(repository, dropped.digest) == dropped.data


def test_a_blob_that_was_just_written_is_not_cleaned_away(service: Service, name: str) -> None:
    service.up()
    data = Files(service.folder).data
    assert usage.last_written(data) == 0.0
    put(service.registry().repository(name), content(1000, seed=450))
    assert time.time() - usage.last_written(data) < keeper._QUIET_SECONDS


def test_what_removes_ends_with_its_keeper(tmp_path: Path) -> None:
    """Else it would go on beside the registry of the next one, and remove what is only just pushed."""
    program, told = tmp_path / "registry", tmp_path / "pid"
    program.write_text(f"#!/bin/sh\necho $$ > {told}.new\nmv {told}.new {told}\nexec sleep 3600\n")
    program.chmod(0o755)
    spec = Spec(str(program), free_port(), MIB, 0.5, MIB, collect_seconds=1, retention_days=None)
    write_json(Files(tmp_path).spec, asdict(spec))
    keeping = "import sys, pathlib, provider.registry_host.keeper as k; k.Keeper(pathlib.Path(sys.argv[1]))._collect()"
    with subprocess.Popen([sys.executable, "-c", keeping, str(tmp_path)]) as process:
        eventually(told.exists, "it removes")
        process.kill()
    pid = int(told.read_text())
    try:
        eventually(lambda: not is_alive(pid), "it has ended")
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_an_upload_that_ends_while_the_latest_write_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "docker" / "registry" / "v2"
    blob, uploads = registry / "blobs" / "sha256" / "ab" / "abcd" / "data", registry / "repositories" / "a" / "_uploads"
    for folder in (blob.parent, uploads / "1" / "hashstates", uploads / "2"):
        folder.mkdir(parents=True)
    blob.touch()
    os.utime(blob, (1000, 1000))
    (uploads / "2" / "data").touch()
    os.utime(uploads / "2" / "data", (2000, 2000))
    scandir = os.scandir

    def ended(path: Any) -> Any:
        if Path(path).name == "hashstates":
            Path(path).rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", ended)
    assert usage.last_written(tmp_path) == 2000.0
    assert not (uploads / "1" / "hashstates").exists()


def test_a_cleaning_that_cannot_be_started_is_told_and_comes_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = Spec(str(tmp_path / "gone"), free_port(), MIB, 0.5, MIB, collect_seconds=60, retention_days=None)
    write_json(Files(tmp_path).spec, asdict(spec))
    keeping = keeper.Keeper(tmp_path)
    keeping._collect()
    assert "removing what is not referred to cannot be started: No such file or directory" in capfd.readouterr().err
    assert keeping._next_collection > time.monotonic()


def test_used_bytes_of_a_folder_that_vanishes_are_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(10))
    assert usage.used_bytes(tmp_path) == 10
    shutil.rmtree(tmp_path / "a")
    assert usage.used_bytes(tmp_path / "a") == 0
