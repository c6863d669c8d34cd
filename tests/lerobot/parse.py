"""Reads trainer arguments as LeRobot itself does. Run by the Python of a LeRobot environment.

Input: JSON lines {"argv": [...], "hub": {repository id: its config.json}}. Output: one JSON line each with what
LeRobot understood after its parser and `TrainPipelineConfig.validate()`, or {"error": "..."}.

There is no network: `hub` is what the argv may read from the Hub (the configuration behind `--policy.path`),
laid into an empty Hub cache that the real client then reads offline.
"""

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

CACHE = Path(tempfile.mkdtemp(prefix="lerobot-hub-"))
os.environ.update(HF_HOME=str(CACHE), HF_HUB_CACHE=str(CACHE), HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
logging.disable(logging.WARNING)

import lerobot.policies.factory  # noqa: E402, F401  registers every policy type
from lerobot.configs import parser  # noqa: E402
from lerobot.configs.train import TrainPipelineConfig  # noqa: E402


def store(repository, config):
    """Put config.json of a model repository where the Hub client looks for it offline."""
    folder = CACHE / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True, exist_ok=True)
    (folder / "snapshots" / ("0" * 40) / "config.json").write_text(json.dumps(config))


def parse(argv):
    """The TrainPipelineConfig that `lerobot-train ARGV` would train with."""
    parsed = []

    def train(cfg: TrainPipelineConfig):
        parsed.append(cfg)

    for remembered in ("_config_path_args", "_config_yaml_overrides"):  # one command a process, LeRobot expects
        getattr(parser, remembered, {}).clear()
    sys.argv = ["lerobot-train", *argv]
    parser.wrap()(train)()
    parsed[0].validate()
    return parsed[0]


def facts(cfg):
    """What the plan promised, as LeRobot read it. A field that this release or policy lacks is null."""
    policy, job = cfg.policy, getattr(cfg, "job", None)
    path = policy.pretrained_path

    def of_policy(name):
        return getattr(policy, name, None)

    return {
        "policy_type": policy.type,
        "pretrained": str(path) if path else None,
        "dataset": cfg.dataset.repo_id,
        "dataset_root": str(cfg.dataset.root) if cfg.dataset.root else None,
        "episodes": cfg.dataset.episodes,
        "batch_size": cfg.batch_size,
        "steps": cfg.steps,
        "save_freq": cfg.save_freq,
        "num_workers": cfg.num_workers,
        "job_name": cfg.job_name,
        "output_dir": str(cfg.output_dir),
        "resume": cfg.resume,
        "repo_id": of_policy("repo_id"),
        "push_to_hub": of_policy("push_to_hub"),
        "save_checkpoint_to_hub": getattr(cfg, "save_checkpoint_to_hub", None),
        "wandb": cfg.wandb.enable,
        "peft_r": cfg.peft.r if cfg.peft is not None else None,
        "job_target": getattr(job, "target", None),
        "job_timeout": getattr(job, "timeout", None),
        "job_image": getattr(job, "image", None),
        "job_detach": getattr(job, "detach", None),
        "job_tags": getattr(job, "tags", None),
        **{
            name: of_policy(name)
            for name in (
                "scheduler_decay_steps", "scheduler_warmup_steps", "dtype", "gradient_checkpointing", "compile_model",
                "train_expert_only", "freeze_vision_encoder", "action_mode", "attn_mode",
            )
        },
    }  # fmt: skip


def main():
    for line in sys.stdin:
        request = json.loads(line)
        for repository, config in request.get("hub", {}).items():
            store(repository, config)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                answer = facts(parse(request["argv"]))
        except SystemExit as stop:
            words = said.getvalue().strip().splitlines()
            answer = {"error": words[-1] if words else f"exit {stop.code}"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
