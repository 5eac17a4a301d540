"""Who owns which field of an object: the managed fields of server-side apply.

An object is created with a POST, which counts as an "update" by its manager. A later apply under the same name counts
as another manager's, and would meet its own creation as a conflict; so what we made before is handed over first. See
https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

from airgap.kubernetes.objects import Object, annotation, metadata

EARLIER = ("pulumi-kubernetes", "pulumi-resource-kubernetes", "before-first-apply")
"""Names that Pulumi's plugin, or an object without an owner, had before; longer ones begin with them."""
_RULES = "https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/"


def manager_of(urn: str) -> str:
    """The manager of a resource's fields where neither its state nor an annotation names one.

    Made from the URN, so that what a killed `up` created is known again by the next one."""
    return f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:8]}"


def forced(inputs: Object, everywhere: bool) -> bool:
    """Whether the resource takes fields away from other managers; `everywhere`: unless its annotation says no."""
    said = annotation(inputs, "patchForce")
    return said == "true" if said else everywhere


def created_by(live: Object, manager: str) -> bool:
    """Whether `manager` made the object: a POST leaves it as the owner of fields outside the status."""
    return any(
        entry.get("manager") == manager and not entry.get("subresource")
        for entry in metadata(live).get("managedFields") or ()
    )


def handed_over(live: Object, manager: str) -> list[dict[str, Any]] | None:
    """The managed fields with our earlier entries joined into the apply entry of `manager`; None: nothing to do."""
    entries = metadata(live).get("managedFields") or []
    ours = [entry for entry in entries if _is_earlier(entry, manager)]
    if not ours:
        return None
    applied = [e for e in entries if e.get("manager") == manager and e.get("operation") == "Apply"]
    joined = copy.deepcopy((applied or ours)[0])
    joined |= {"manager": manager, "operation": "Apply"}
    for entry in ours:
        joined["fieldsV1"] = _union(joined.get("fieldsV1") or {}, entry.get("fieldsV1") or {})
    rest = [entry for entry in entries if entry not in ours and entry not in applied]
    return [*rest, joined]


def _is_earlier(entry: dict[str, Any], manager: str) -> bool:
    name = entry.get("manager", "")
    named = name == manager or name.startswith(EARLIER)
    return bool(named and entry.get("operation") == "Update" and not entry.get("subresource"))


def _union(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two sets of fields as one; `f:name`, `k:{...}` and `v:...` are members, `.` stands for the thing itself."""
    return {key: _union(one.get(key, {}), other.get(key, {})) for key in {**one, **other}}


def owns(live: Object, path: Sequence[str | int], manager: str, *, others: bool = False) -> bool:
    """Whether `manager` owns the field at `path` (`others`: whether anybody else does); members of maps alone."""
    for entry in metadata(live).get("managedFields") or ():
        if (entry.get("manager") == manager) != others and _has(entry.get("fieldsV1") or {}, path):
            return True
    return False


def _has(fields: dict[str, Any], path: Sequence[str | int]) -> bool:
    for step in path:
        found = fields.get(f"f:{step}")
        if found is None:
            return False
        fields = found
    return True


def explained(message: str, manager: str, conflicts: Sequence[tuple[str, str]]) -> str:
    """A conflict in words: which fields are whose, and what to do."""
    lines = [f"  {field or 'the object'}: {owner}" for owner, field in conflicts]
    return "\n".join(
        [
            f"Server-Side Apply field conflict detected. See {_RULES} for troubleshooting help.",
            f"The resource managed by field manager {manager!r} had an apply conflict: {message}",
            *lines,
            "To leave a field to its owner, take it out of the program or name it in ignore_changes; to take it over, "
            'set the annotation pulumi.com/patchForce: "true", or run once with PULUMI_K8S_ENABLE_PATCH_FORCE=true.',
        ]
    )
