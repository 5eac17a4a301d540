"""The router of a Docker host: HAProxy, in front of all services of a workspace.

`configuration` and `runtime` are pure: what the router is to be told, as files and as commands; `refusal` is what it
answers without a key. `container` says how its container is run. `router` carries it out, through the Docker engine.
How traffic moves: docs/routing.md.
"""
