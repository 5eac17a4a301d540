"""Services as containers on a Docker host, as the provider's resources see them.

`engine` talks to a host's engine, `ssh` reaches one on another host, `tls` looks at the certificates for one at tcp://,
`facts` tells a container's condition from what the engine says (pure), `target` is what `provider.endpoint` waits for.
"""
