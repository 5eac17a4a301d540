"""Services on a Kubernetes cluster, as the provider's resources see them.

`kubeconfig` finds out which cluster is meant and who asks, `cluster` talks to its API server, `command` runs commands
in pods, `facts` tells a rollout's condition from what the cluster says (pure; `pods`, `containers`, `scheduling`,
`refusals` and `objects` are its parts), `target` is what `provider.endpoint` waits for.
"""
