"""A LeRobot training that stopped -> the job that continues it from its newest checkpoint."""

from __future__ import annotations

from pathlib import Path

from planner import pasted
from planner.errors import UsageError
from planner.job import Job
from planner.recipes.flags import text
from planner.recipes.lerobot import DEFAULT_STEPS

#: where a run's weights come from and its files go: with --policy.path LeRobot 0.4.4 and 0.6.1 begin again (configs/train.py)
_BEGINNING = ("policy.type", "policy.path", "policy.pretrained_path", "config_path", "resume", "output_dir", "job.")


def resumed(job: Job, checkpoint: Path | None = None) -> Job:
    """The job that continues this one, with the settings of the checkpoint's train_config.json.

    `checkpoint` is a folder of this machine, `OUTPUT/checkpoints/000500`: the job goes on into the same OUTPUT, also where that was
    a path relative to a folder that is not the current one. Its other arguments are the checkpoint's own and stay, so that what it
    reads, where and for how many steps can still be seen in it. From the Hub no other argument is repeated.
    `--job.target=local` keeps settings that a checkpoint may carry from sending the run away again. On a volume the job continues
    by itself, and is what it was. Raises UsageError where no checkpoint can be, or none can be continued.
    """
    if job.output.kind == "volume":
        return job
    here: tuple[str, ...] = () if job.lerobot == "0.4.4" else ("--job.target=local",)
    if job.output.kind == "folder":
        if job.lerobot == "0.4.4" and any(flag and flag.startswith("peft.") for flag, _ in pasted.spans(job.trainer)):
            raise UsageError("resume", "LeRobot 0.4.4 puts a new adapter over the saved one when a LoRA run is resumed: "
                             "train it again with --lerobot-version 0.6.1")
        output = job.output.where if checkpoint is None else str(checkpoint.parent.parent)
        config = f"{checkpoint or output + '/checkpoints/last'}/pretrained_model/train_config.json"
        kept = pasted.without(job.trainer, _BEGINNING)
        trainer = (f"--config_path={config}", "--resume=true", f"--output_dir={text(output)}", *here, *kept)
        job = job._replace(output=job.output._replace(where=output))
    else:
        trainer = (f"--config_path={_pushed(job)}", "--resume=true", *here)
    return _with(job, trainer)


def steps_left(job: Job, checkpoint: Path) -> int:
    """Steps that the job does after a checkpoint of this machine; LeRobot counts them itself."""
    said = pasted.value_of(job.trainer, "steps")
    return max(0, (DEFAULT_STEPS if said is None else pasted.integer("steps", said)) - int(checkpoint.name))


def _pushed(job: Job) -> str:
    """The repository with the job's checkpoints."""
    where = job.output.where
    if job.lerobot == "0.4.4":
        raise UsageError("resume", "LeRobot 0.4.4 neither pushes checkpoints nor continues from the Hub: launch it again")
    pushed = pasted.value_of(job.trainer, "save_checkpoint_to_hub")
    if not where or pushed is None or not pasted.boolean("save_checkpoint_to_hub", pushed):
        raise UsageError("resume", f"{job.name} pushed no checkpoints (--save_checkpoint_to_hub): launch it again")
    return where


def _with(job: Job, trainer: tuple[str, ...]) -> Job:
    return job._replace(argv=(*job.argv[: len(job.argv) - len(job.trainer)], *trainer), trainer=trainer)
