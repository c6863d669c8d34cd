"""The same examples on every run: a test that fails here fails everywhere."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # no test depends on the GPUs of the machine that runs it

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
