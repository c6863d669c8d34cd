"""The same examples on every run: a test that fails here fails everywhere. And nothing of whoever runs them: no token, no network."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest
from hypothesis import settings

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # no test depends on the GPUs of the machine that runs it

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would all that tests start

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

#: huggingface_hub reads it when it is imported: no test finds a login
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="plan-tests-")
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(_name, None)
#: a port where nobody answers
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache-of-nobody"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state-of-nobody"))
