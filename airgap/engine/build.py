"""Builds the engine from Go modules.

Two modules of our own pin it: `pulumi/` for the engine, `language_host/` for the Python language host. The language
host of this engine version is a Go module that some proxies do not serve; the last SDK that still holds one is
3.70.0, and it works with today's engine and SDK (what it does not know: `runtime.options.virtualenv`, plugins with
`runtime: python` in PulumiPlugin.yaml, Python policy packs). Its two helper scripts come from the SDK of the engine's
own version, out of the module cache.
"""

import json
import shutil
from pathlib import Path

from airgap.engine.locate import VERSION
from airgap.go_modules import Build, Program, dotted
from infra.setup.problem import say

HERE = Path(__file__).resolve().parent
SCRIPTS = ("python/cmd/pulumi-language-python-exec", "python/dist/pulumi-resource-pulumi-python")
SDK = "github.com/pulumi/pulumi/sdk/v3"
LDFLAGS = f"-s -w -X {SDK}/go/common/version.Version=v{dotted(VERSION)}"

ENGINE = Build(
    what="the Pulumi engine",
    space="the build takes about 4 GiB for Go's caches and 150 MiB for the engine",
    reason="No Pulumi engine on PATH, the official installer is out of reach",
    otherwise=f"install Pulumi {dotted(VERSION)} or newer (https://www.pulumi.com/docs/install/)",
)
PULUMI = Program("pulumi", HERE / "pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", LDFLAGS)
LANGUAGE_HOST = Program(
    "pulumi-language-python", HERE / "language_host", f"{SDK}/python/cmd/pulumi-language-python", LDFLAGS
)


def build(target: Path) -> None:
    """Build the engine into `target`. Raises SetupError."""
    go = ENGINE.find_go(PULUMI.module)
    say(f"building Pulumi {dotted(VERSION)} from its Go modules, once: about 5 minutes on 2 cores")
    target.mkdir(exist_ok=True)
    for number, program in enumerate((PULUMI, LANGUAGE_HOST), start=1):
        step = f"{number}/2 {program.name}"
        packages = ENGINE.fetch(go, program, step)
        ENGINE.compile(go, program, step, target, packages)
    copy_scripts(go, target)


def copy_scripts(go: str, target: Path) -> None:
    """Copy the language host's helper scripts out of the SDK's module, whose checksum is in go.sum."""
    module = json.loads(ENGINE.run(go, PULUMI.module, ["mod", "download", "-json", SDK], lambda _: None))
    for script in SCRIPTS:
        copy = target / Path(script).name
        shutil.copyfile(Path(module["Dir"], script), copy)
        copy.chmod(0o755)
