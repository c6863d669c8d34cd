"""What a run on Modal needs, looked at before anything is built: token, workspace, its limits, secrets, volumes, data, price."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from planner import doctor, pasted
from planner.deadline import Deadline
from planner.doctor import Ask
from planner.errors import NotAuthorised, PlanError, UsageError
from planner.job import Check, Job
from planner.targets import _modal_api as api
from planner.targets import _modal_doctor, _modal_files
from planner.targets import modal as place
from planner.units import GIB

DEARER = Decimal("1.05")  # a price that rose by more since it was planned with stops a launch
USUAL_ATTEMPTS = 11  # whether Modal takes a function that is repeated more often is not published



def workspace() -> str:
    """The name of the token's workspace."""

    async def ask() -> str:
        import modal

        found = modal.Workspace.from_context()
        await found.hydrate.aio()
        if not found.name:
            raise ValueError("a workspace without a name")
        return str(found.name)

    return api.ask("say whose token this is", ask)


def checks(job: Job) -> tuple[Check, ...]:
    """All of them; what depends on a token that is refused is not told."""
    account = _examined([Ask(place.name, "account", _modal_doctor.account)])
    if any(check.ok is False for check in account):
        return (*account, *_function(job))
    names = job.secret_names or {}
    secrets = [Ask(place.name, f"secret {place.secret_name(one, names)}", _modal_doctor.secret_there(one, names)) for one in job.secrets]
    volumes = [Ask(place.name, f"volume {one.name}", _modal_doctor.volume_there(one.name)) for one in job.volumes]
    limits = Ask(place.name, "limits", lambda: _modal_doctor.limits(job.num_gpus))
    return (*account, *_examined([limits, *volumes]), *_needed(_examined(secrets)), *_dataset(job), _price(job), *_function(job),
            Check("image", None, "modal builds it first where it has not yet: minutes without a word, which are not billed"))


def _examined(asks: Sequence[Ask]) -> tuple[Check, ...]:
    """The doctor's answers; what it warns of, or cannot say, stops nothing."""
    said = {doctor.OK: True, doctor.FAIL: False}
    return tuple(Check(one.name, said.get(one.status), one.text, one.fix, one.exit_code)
                 for one in doctor.examine(asks, Deadline(api.ANSWER_S)))  # fmt: skip


def _needed(secrets: tuple[Check, ...]) -> tuple[Check, ...]:
    """A secret that the job names is not optional: without it Modal refuses the function."""
    return tuple(one if one.ok or one.exit_code != UsageError.exit_code else one._replace(ok=False, exit_code=NotAuthorised.exit_code)
                 for one in secrets)  # fmt: skip


def _dataset(job: Job) -> tuple[Check, ...]:
    """A local dataset has to lie on its volume."""
    root = pasted.value_of(job.trainer, "dataset.root")
    held = next((one for one in job.volumes if root and root.startswith(one.mount + "/")), None)
    if root is None or held is None:
        return ()
    folder = root.removeprefix(held.mount).strip("/")
    try:
        files = api.ask(f"list the volume {held.name}", lambda: _modal_files.listed(held.name, f"{folder}/meta"))
    except PlanError as error:
        return (Check("dataset", False, error.text, exit_code=error.exit_code),)
    there = f"{folder}/meta/info.json" in {one.path for one in files}
    text = f"the volume {held.name} {'has' if there else 'has no'} {folder}{'' if there else '/meta/info.json'}"
    return (Check("dataset", there, text, f"modal volume put {held.name} YOUR_DATASET /{folder}"),)


def _price(job: Job) -> Check:
    """GPU, cores and memory together, as Modal sells them."""
    try:
        listed = place.prices(Deadline(api.ANSWER_S))
    except (PlanError, TimeoutError):
        return Check("price", None, "modal did not tell its rates")
    rate = next((one.usd_per_hour for one in listed.quotes if one.flavor.upper() == job.flavor.upper()), None)
    cpu, memory = listed.usd_per_core_hour, listed.usd_per_gib_hour
    if rate is None or job.usd_per_hour is None or cpu is None or memory is None:
        return Check("price", None, f"modal tells no rate of {job.flavor} that the plan's can be compared with")
    now = rate * job.num_gpus + cpu * (job.cores or 0) + memory * (job.ram_bytes or 0) / GIB
    planned = Decimal(job.usd_per_hour)
    text = f"{place.gpu(job)} with cores and memory costs ${now:.2f}/h, ${planned:.2f}/h was planned"
    return Check("price", now <= planned * DEARER, text, "plan again with --live", 5)


def _function(job: Job) -> tuple[Check, ...]:
    """What Modal's client takes unseen."""
    try:
        place.refuse(job)
    except UsageError as error:
        return (Check(error.code, False, error.text),)
    each = f"modal stops it after {job.timeout_s} s"
    if job.attempts > USUAL_ATTEMPTS:
        return (Check("timeout", None, f"{each}, in each of {job.attempts} attempts; whether modal repeats a call so often is not known"),)
    return (Check("timeout", True, f"{each}, in each of {job.attempts} attempts" if job.attempts > 1 else each),)
