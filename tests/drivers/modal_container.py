"""A container of the loopback Modal: runs one function of an uploaded script once. argv: script, function, app, call, answer."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path

import modal

script, function, app, call, answer = sys.argv[1:]
spec = importlib.util.spec_from_file_location(Path(script).stem, script)
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules[Path(script).stem] = module
spec.loader.exec_module(module)


class Volume:
    """Folders need no commit; that one was asked for is told."""

    def commit(self) -> None:
        print("(committed)", flush=True)


modal.is_local = lambda: False
modal.current_function_call_id = lambda: call
module.outputs = Volume()
module.app._app_id = app  # as the real container's entry point does
type(module.app).app_id = property(lambda self: app)
try:
    result: tuple[bool, object] = (True, getattr(module, function).local())
except Exception as error:
    result = (False, error)
Path(answer).write_bytes(pickle.dumps(result))
