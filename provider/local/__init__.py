"""The local compute target: services as supervised processes on this machine.

`supervisor` runs outside the provider, one small process a service, and lives on when `pulumi` ends; with it come
`record` (its state machine), `rollout` and `instance` (what it does), `causes`, `process`, `probe`, `output` and
`listener`. The rest is the provider's side: `client` talks to a supervisor, `revision`, `models` and `surroundings`
prepare what it runs, `ports` looks for conflicts, `target` is what `provider.endpoint` sees. `layout` and `shared`
serve both.
"""
