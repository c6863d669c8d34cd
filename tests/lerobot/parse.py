"""Reads trainer arguments as LeRobot itself does. Run by the Python of a LeRobot environment.

Input: JSON lines {"argv": [...], "hub": {repository id: its config.json},
"cameras": [keys of the dataset]}. Output: one JSON line each, after LeRobot's
own parser and `TrainPipelineConfig.validate()`: {"config": the configuration it would train with, "learning_rate":
its schedule}, or {"error": "..."}.

There is no network: `hub` is what the argv may read from the Hub (the configuration behind `--policy.path`), laid into
an empty Hub cache that the real client reads offline.
"""

import contextlib
import functools
import inspect
import io
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

CACHE = tempfile.TemporaryDirectory(prefix="lerobot-hub-")
os.environ.update(HF_HOME=CACHE.name, HF_HUB_CACHE=CACHE.name, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
logging.disable(logging.WARNING)
inspect.getsource = functools.lru_cache(None)(inspect.getsource)  # draccus reads every field's comment for --help, each time

import draccus  # noqa: E402
import lerobot.policies.factory  # noqa: E402, F401  registers every policy type
import torch  # noqa: E402
from lerobot.configs import parser  # noqa: E402
from lerobot.configs.train import TrainPipelineConfig  # noqa: E402
from lerobot.configs.types import FeatureType, PolicyFeature  # noqa: E402
from lerobot.policies.utils import validate_visual_features_consistency  # noqa: E402

lerobot.configs.policies.is_torch_device_available = lambda name: True  # the lines are for machines with a GPU


def store(repository, config):
    """Put config.json of a model repository where the Hub client looks for it offline."""
    folder, commit = Path(CACHE.name) / f"models--{repository.replace('/', '--')}", "0" * 40
    for path, text in (("refs/main", commit), (f"snapshots/{commit}/config.json", json.dumps(config))):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def parse(argv):
    """The TrainPipelineConfig that `lerobot-train ARGV` would train with."""
    parsed = []

    def train(cfg: TrainPipelineConfig):
        parsed.append(cfg)

    for remembered in ("_config_path_args", "_config_yaml_overrides"):  # LeRobot expects one command a process
        getattr(parser, remembered, {}).clear()
    sys.argv = ["lerobot-train", *argv]
    parser.wrap()(train)()
    (cfg,) = parsed
    if getattr(getattr(cfg, "job", None), "is_remote", False) and cfg.policy and not cfg.policy.repo_id:
        cfg.policy.repo_id, cfg.policy.push_to_hub = "user/made-by-lerobot", True  # as submit_to_hf does before validate()
    cfg.validate()
    return cfg


def compare_cameras(cfg, keys):
    """LeRobot's own check of the dataset's cameras, renamed as its preprocessor does, against those of the weights."""
    if keys and cfg.policy.input_features:
        shown = {cfg.rename_map.get(key, key): PolicyFeature(type=FeatureType.VISUAL, shape=(3, 480, 640)) for key in keys}
        validate_visual_features_consistency(cfg.policy, shown)


def learning_rate(cfg):
    """{"peak", "last"} of the schedule as fractions of the optimizer's rate, or None where it is constant.

    `last` is the factor of the final step. Only schedules that are a function of the step are read.
    """
    if cfg.scheduler is None or not hasattr(cfg.policy, "scheduler_decay_steps"):
        return None
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.optimizer.lr)
    factor = cfg.scheduler.build(optimizer, cfg.steps).lr_lambdas[0]
    points = {cfg.steps * part // 1000 for part in range(1001)}
    return {"peak": max(map(factor, points)), "last": factor(cfg.steps)}


def answer(request):
    for repository, config in request.get("hub", {}).items():
        store(repository, config)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cfg = parse(request["argv"])
            compare_cameras(cfg, request.get("cameras"))
            return {"config": draccus.encode(cfg), "learning_rate": learning_rate(cfg)}
    except SystemExit as stop:
        words = said.getvalue().strip().splitlines()
        return {"error": words[-1] if words else f"exit {stop.code}"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # a broken character must not be healed by JSON
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), ensure_ascii=False), flush=True)
