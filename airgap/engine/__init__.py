"""Makes the Pulumi engine available: `python3 -m airgap.engine` prints the directory to put on PATH.

Order: a `pulumi` on PATH that is new enough; the one set up before in the cache; the vendor's installer, where the
internet is reachable; a build from Go modules, where only a Go module proxy is. The first two take no time. Standard
library only, because this runs before anything is installed.
"""
