"""A stand-in for Pulumi's plugin `kubernetes`, for machines that cannot download it.

It does what the official plugin (4.34) does with any kind of object, and keeps the same state: a stack can go from one
to the other and sees no change. Written against the behaviour. Left out: Helm, Kustomize and YAML components, rendering
to files, client-side apply.

Modules: `objects` (what an object is, and its normal form), `names`, `replacement` (which changes replace),
`difference`, `checkpoint` (the state's layout), `managers` (who owns a field), `connection` (the API server),
`readiness`, `rollout` and `waiting`, `operations`, `plugin`.
"""
