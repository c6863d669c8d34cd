"""The job: what will be executed, told without saying where the values go on a provider's command line."""

from __future__ import annotations

from typing import NamedTuple


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
