"""The resource provider `slipway`: what no existing Pulumi provider has.

One module a resource. `sdk` holds the resource classes that a Pulumi program uses; everything else runs in the
provider's own process, which the engine starts through the executable `pulumi-resource-slipway`. This package knows
nothing of `components`.
"""
