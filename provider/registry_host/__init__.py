"""A registry service on this machine: CNCF Distribution as a process, kept alive and within its tier's limits.

`spec` is what is asked for and where the files are, `keeper` the process that holds the registry's (by `processes`),
`usage` measures and cleans what is stored, `host` starts, changes and ends a keeper for the resource
`registry_service`.

`front` leads to several registries on the same data. `courier` delivers what happens as `events`, kept as `deliveries`
until then, to the `webhooks` of users. What all of them tell goes through `log`.
"""
