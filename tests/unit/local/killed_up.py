"""Creates a LocalService and is gone in the middle, as `pulumi up` under `kill -9`: `killed_up.py POINT INPUTS`.

POINT is `module:function` and the name says where it ends: right before that function would be called.
"""

import asyncio
import importlib
import json
import os
import sys
from typing import NoReturn

from provider.local_service import LocalService
from tests.operations import context


def gone(*_: object, **__: object) -> NoReturn:
    os._exit(9)


module, _, function = sys.argv[1].partition(":")
setattr(importlib.import_module(module), function, gone)
asyncio.run(LocalService().create(context("slipway:index:LocalService", "mnist"), json.loads(sys.argv[2])))
