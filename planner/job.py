"""The job: what will be executed, told without saying where the values go on a provider's command line; and what a place says of it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Output(NamedTuple):
    """Where the results go, so that they survive the machine."""

    kind: str  # hub, volume, folder
    where: str  # repository id, path under a volume's mount, or local folder


class Volume(NamedTuple):
    """A provider's volume, by name, and where the container sees it."""

    name: str
    mount: str


class Job(NamedTuple):
    """One run on one offer. `argv` reaches the trainer as data: nothing in it is ever read by a shell."""

    name: str
    target: str
    flavor: str
    gpu: str
    num_gpus: int
    lerobot: str  # release planned for
    image: str | None  # a registry image, or None where the target builds one
    packages: tuple[str, ...]  # what a target that builds its image installs
    argv: tuple[str, ...]  # the whole command, launcher included
    trainer: tuple[str, ...]  # the trainer's own arguments inside argv
    env: dict[str, str]
    secrets: tuple[str, ...]  # names of environment variables, never values
    volumes: tuple[Volume, ...]
    cores: int | None  # physical cores to ask for, where the target sells them apart
    ram_bytes: int | None
    timeout_s: int
    startup_timeout_s: int | None
    attempts: int
    output: Output
    labels: dict[str, str]
    warnings: tuple[str, ...] = ()
    namespace: str | None = None  # who pays, where that is not the user's own account
    usd_per_hour: str | None = None  # as planned, a decimal number: a place that asks more by now is refused before the launch
    folder: str | None = None  # on this machine: where the run starts; None: where plan does
    secret_names: dict[str, str] | None = None  # variable -> the place's secret that holds it, where it is not the usual one
    trainer_at: str | None = None  # on this machine: the trainer's environment (planner.trainer); None: looked for


def restored(values: dict[str, Any]) -> Job:
    """The job that `Job._asdict()` became through JSON, where tuples are lists."""
    job = Job(**values)
    return job._replace(
        packages=tuple(job.packages), argv=tuple(job.argv), trainer=tuple(job.trainer), secrets=tuple(job.secrets),
        volumes=tuple(Volume(*volume) for volume in job.volumes), output=Output(*job.output), warnings=tuple(job.warnings),
    )  # fmt: skip


#: What a place needs to find the job again: its own ids, all text. Kept in the ledger.
Handle = dict[str, str]

#: Every provider's states are one of these. `unknown`: the place does not know the job any more.
STATES = ("queued", "running", "succeeded", "failed", "cancelled", "timed_out", "unknown")
ENDED = frozenset(("succeeded", "failed", "cancelled", "timed_out"))


class Status(NamedTuple):
    """What a place says of a job now. Times as the place measured them; None is what it does not say."""

    state: str
    message: str | None = None  # the place's own words
    waiting_s: float | None = None  # before it started, not billed
    running_s: float | None = None  # billed
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Usage(NamedTuple):
    """What a job uses at one moment. None is what the place does not measure."""

    gpu_share: float | None = None  # 0 to 1
    vram_bytes: int | None = None  # of the fullest GPU, whole process
    vram_total_bytes: int | None = None
    ram_bytes: int | None = None


class Check(NamedTuple):
    """One thing that a launch needs. `fix` is the next thing to do where it is not there."""

    name: str
    ok: bool | None  # None: the place does not tell
    text: str
    fix: str = ""
    exit_code: int = 2  # of a launch that this stops
