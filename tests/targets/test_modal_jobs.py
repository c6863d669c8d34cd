"""Runs on Modal from launch to bill: the real client against a loopback Modal, the uploaded script in a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from grpclib import Status as Grpc
from modal_proto import api_pb2

from planner.errors import Ambiguous, NotAuthorised, PlanError, Unreachable, UsageError
from planner.job import Handle, Status, restored
from planner.targets import _modal_api, _modal_logs
from planner.targets import modal as target
from planner.targets.base import Target
from tests.conftest import NOWHERE
from tests.servers.modal import AFTER, DROP, TOKEN_ID, TOKEN_SECRET
from tests.servers.modal_jobs import DATASETS, OUTPUTS
from tests.targets.conftest import ModalPlace

FAILURE, TERMINATED, TIMEOUT = (api_pb2.GenericResult.GENERIC_STATUS_FAILURE, api_pb2.GenericResult.GENERIC_STATUS_TERMINATED,
                                api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT)  # fmt: skip
DONE = {"finished": True, "output_dir": "/outputs/pick-1"}

TRAINER = """#!{python}
import json, os, sys
from pathlib import Path
flags = dict(a[2:].split("=", 1) for a in sys.argv[1:])
notes = Path(os.environ["NOTES"])
with notes.open("a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
out, done = Path(flags.get("output_dir", "")), 0
if "resume" in flags:
    config = Path(flags["config_path"])
    out, done = Path(json.loads(config.read_text())["output_dir"]), int(config.resolve().parent.parent.name)
elif out.exists():
    sys.exit("FileExistsError: Output directory " + str(out))
for step in range(done + 1, 4):
    print(f"step:{{step}} loss:0.{{step}}", flush=True)
    folder = out / "checkpoints" / f"{{step:06d}}"
    (folder / "training_state").mkdir(parents=True)
    (folder / "pretrained_model").mkdir()
    (folder / "training_state" / "training_step.json").write_text("{{}}")
    (folder / "pretrained_model" / "train_config.json").write_text(json.dumps({{"output_dir": str(out)}}))
    (folder / "pretrained_model" / "model.safetensors").write_bytes(bytes(1000 + step))
    last = out / "checkpoints" / "last"
    last.unlink(missing_ok=True)
    last.symlink_to(folder.name)
    print(f"Checkpoint policy after step {{step}}", flush=True)
    if step == 2 and os.environ["UNTIL"]:
        at = os.environ["UNTIL"]
        os.environ["UNTIL"] = ""
        if not Path(at + ".passed").exists():
            Path(at + ".passed").touch()
            open(at, "w").close()  # somebody is waiting for this
            if os.environ.get("FAILS"):
                sys.exit("CUDA out of memory")
            open(at + ".never", "w").close()  # which nobody reads
"""


def started(place: ModalPlace, run: str = "run-1", **fields: Any) -> Handle:
    return target.submit(place.job(run, **fields))


def test_it_is_a_target() -> None:
    for name, method in vars(Target).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            promised = inspect.signature(method).parameters.values()
            offered = inspect.signature(getattr(target, name)).parameters.values()
            assert [(one.name, one.kind) for one in promised if one.name != "self"] == [(one.name, one.kind) for one in offered], name
    assert target.limits() == (86_400, None, 8)


def test_what_is_sent_is_what_was_shown(modal_place: ModalPlace) -> None:
    cloud = modal_place.cloud
    job = modal_place.job("run-1", flavor="A100-80GB", num_gpus=2, attempts=3)._replace(secret_names={"HF_TOKEN": "ours"})
    cloud.secrets["ours"] = {"HF_TOKEN"}
    shown = target.request(job)
    assert not cloud.server.seen, "showing sends nothing"
    handle = target.submit(job)
    [app], [call] = cloud.apps.values(), cloud.calls.values()
    assert (app.description, app.tags) == (shown["app"], shown["tags"]) == ("run-1", {"plan-run-id": "run-1"})
    assert cloud.script == shown["script"] == target.emit(job)
    sent, said = call.function, shown["function"]
    assert (sent.resources.gpu_config.gpu_type, sent.resources.gpu_config.count) == tuple(said["gpu"].split(":")[:1]) + (2,)
    assert (sent.resources.milli_cpu, sent.resources.memory_mb) == (said["cpu"] * 1000, said["memory_mib"])
    assert (sent.timeout_secs, sent.startup_timeout_secs, sent.retry_policy.retries) == (15_000, 900, 2)
    assert (said["timeout"], said["startup_timeout"], said["retries"]) == (15_000, 900, 2)
    assert sent.autoscaler_settings.max_containers == said["max_containers"] == 1
    assert {mount.mount_path: mount.volume_id for mount in sent.volume_mounts} == {
        mount: f"vo-{name}" for mount, name in shown["volumes"].items()}
    assert list(sent.secret_ids) == [f"st-{name}" for name in shown["secrets"]] == ["st-ours", "st-wandb-secret"]
    lines = "\n".join(line for image in cloud.images for line in image.dockerfile_commands)
    assert all(package in lines for package in (*job.packages, f"uv:{target.UV}", "ffmpeg"))
    assert handle == {"app_id": app.id, "call_id": call.id, "app": "run-1", "url": f"https://modal.com/id/{app.id}",
                      "volume": OUTPUTS, "folder": "pick-1", "since": handle["since"]}  # fmt: skip
    assert json.loads(json.dumps(handle)) == handle
    assert app.state == api_pb2.APP_STATE_DETACHED_DISCONNECTED, "it goes on without this process"


def test_the_command_line_makes_the_same_function(modal_place: ModalPlace, tmp_path: Path) -> None:
    """The emitted script by the real `modal run --detach`, against the same server."""
    job, cloud = modal_place.job("run-1", attempts=2), modal_place.cloud
    target.submit(job)
    script = tmp_path / "modal_training.py"
    script.write_text(target.emit(job), encoding="utf-8")
    modal = [sys.executable, "-m", "modal", "run", "-q", "--detach", str(script)]
    done = subprocess.run(modal, capture_output=True, text=True, env={**os.environ, "MODAL_LOGS_TIMEOUT": "1"}, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    mine, theirs = cloud.calls.values()
    assert mine.app is not theirs.app and theirs.id in done.stdout and theirs.app.id in done.stdout
    for one in (mine.function, theirs.function):
        del one.mount_ids[:]
        one.image_id = ""
        del one.object_dependencies[:]
    assert str(mine.function).splitlines() == str(theirs.function).splitlines()
    assert mine.function == theirs.function and mine.app.tags == theirs.app.tags and len(cloud.stored) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"flavor": "gpu'); import os"}, "plan gpus"), ({"num_gpus": 9}, "--num-gpus 8"), ({"flavor": "A10", "num_gpus": 8}, "--num-gpus 4"),
     ({"timeout_s": 86_401}, "--attempts"), ({"timeout_s": 0}, "--attempts")],
)  # fmt: skip
def test_what_the_client_would_let_through(modal_place: ModalPlace, fields: dict[str, Any], words: str) -> None:
    job = modal_place.job("run-1")._replace(**fields)
    for refuse in (target.submit, target.emit, target.request):
        with pytest.raises(UsageError, match=words):
            refuse(job)
    assert not modal_place.cloud.server.seen
    assert any(check.ok is False and words in check.text for check in target.preflight(job))


@pytest.mark.parametrize("fault", [Grpc.UNAVAILABLE, Grpc.NOT_FOUND, Grpc.RESOURCE_EXHAUSTED, DROP, (AFTER, DROP)])
@pytest.mark.parametrize("rpc", ["AppCreate", "SecretGetOrCreate", "ImageGetOrCreate", "FunctionCreate", "AppPublish"])
def test_what_fails_before_the_call_started_nothing(modal_place: ModalPlace, rpc: str, fault: Any) -> None:
    job = modal_place.job("run-1")
    modal_place.cloud.server.faults[rpc] = fault
    with pytest.raises(PlanError) as failed:
        target.submit(job)
    assert not isinstance(failed.value, Ambiguous) and TOKEN_SECRET not in failed.value.text
    modal_place.heal()
    assert not modal_place.cloud.calls and target.find(job) is None


def test_what_fails_after_the_call_changes_nothing(modal_place: ModalPlace) -> None:
    modal_place.cloud.server.faults["AppClientDisconnect"] = Grpc.UNAVAILABLE
    handle = started(modal_place)
    modal_place.heal()
    assert target.status(handle).state == "queued" and target.find(modal_place.job("run-1"))


def test_an_image_that_is_not_built(modal_place: ModalPlace) -> None:
    modal_place.cloud.image_fails = True
    with pytest.raises(UsageError, match="image was not built.*no such package"):
        started(modal_place)


def test_a_lost_reply_is_found_by_name(modal_place: ModalPlace) -> None:
    cloud = modal_place.cloud
    cloud.server.faults["FunctionMap"] = (AFTER, DROP)
    job = modal_place.job("run-2")
    with pytest.raises(Ambiguous, match="run-2"):
        target.submit(job)
    modal_place.heal()
    assert len(cloud.calls) == 1, "the client's own repetition is one call"
    started(modal_place, "run-22")
    handle = target.find(restored(json.loads(json.dumps(job._asdict()))))
    app = next(app for app in cloud.apps.values() if app.description == "run-2")
    assert handle and (handle["app_id"], handle["call_id"]) == (app.id, "")
    assert target.status(handle).state == "queued" and list(target.logs(handle, follow=False)) == []
    told(modal_place, handle, "running", call=next(iter(cloud.calls)))
    cloud.says(next(iter(cloud.calls)), "hello\n")
    assert target.status(handle).state == "running" and list(target.logs(handle, follow=False)) == ["hello"]
    cloud.ends(next(iter(cloud.calls)), value=DONE)
    assert target.status(handle).state == "succeeded"
    found = target.find(job)
    assert found and found["call_id"] == next(iter(cloud.calls)), "also after the app's end, by the status file"


def told(place: ModalPlace, handle: Handle, state: str, **fields: Any) -> None:
    """The status file, as the container writes it."""
    since = datetime.fromisoformat(handle["since"]).timestamp()
    status = {"run": handle["app"], "app": handle["app_id"], "call": handle["call_id"], "state": state, "message": None, "exit_code": None,
              "began_at": since + 40, "seen_at": since + 100, "attempt": 1, "spent_s": 60.0, "progress": False}  # fmt: skip
    place.cloud.put(OUTPUTS, "pick-1.status.json", {**status, **fields})


@pytest.mark.parametrize(
    ("result", "value", "said", "file", "state", "message", "code"),
    [
        (None, None, "", None, "queued", None, None), (None, None, "", "running", "running", None, None),
        (None, None, "", "interrupted", "queued", "it was interrupted and starts again", None),
        (None, None, "", "failed", "running", None, None), (1, DONE, "", "succeeded", "succeeded", None, 0),
        (1, DONE, "", None, "succeeded", None, None),
        (FAILURE, RuntimeError("the trainer ended with exit code 3:\nCUDA out of memory"), "", "failed", "failed",
         "the trainer ended with exit code 3", 3),
        (FAILURE, RuntimeError("stopped after 100 s in 2 attempts, as was planned"), "", None, "timed_out",
         "stopped after 100 s in 2 attempts, as was planned", None),
        (FAILURE, None, "Container ran out of memory", None, "failed", "Container ran out of memory", None),
        (TERMINATED, None, "Function call was cancelled", "interrupted", "cancelled", "Function call was cancelled", None),
        (TIMEOUT, None, "hit its timeout", "running", "timed_out", "its timeout is over", None),
    ],
)  # fmt: skip
def test_states(
    modal_place: ModalPlace, result: int | None, value: Any, said: str, file: str | None, state: str, message: str | None, code: int | None,
) -> None:  # fmt: skip
    handle = started(modal_place)
    if file:
        told(modal_place, handle, file, exit_code=code)
    if result is not None:
        modal_place.cloud.ends(handle["call_id"], result, value, said)
    waiting, running = (pytest.approx(40), 60.0) if file else (None, None)
    assert target.status(handle) == Status(state, message, waiting, running, code)


def test_what_modal_has_forgotten(modal_place: ModalPlace) -> None:
    """Results are kept for a week: then the status file says how it ended."""
    handle = started(modal_place)
    modal_place.cloud.ends(handle["call_id"])
    modal_place.cloud.calls[handle["call_id"]].ordered = "forgotten"
    assert target.status(handle).state == "unknown"
    told(modal_place, handle, "running")
    assert target.status(handle).state == "unknown", "nobody saw it end"
    told(modal_place, handle, "failed", message="the trainer ended with exit code 3:\nx", exit_code=3)
    assert target.status(handle)[:2] == ("failed", "the trainer ended with exit code 3")
    told(modal_place, handle, "succeeded", app="ap-of-a-later-run")
    assert target.status(handle).state == "unknown"


def test_an_app_without_a_call(modal_place: ModalPlace) -> None:
    handle = {**started(modal_place), "call_id": ""}
    modal_place.cloud.ends("".join(modal_place.cloud.calls))
    assert target.status(handle).state == "failed"


LINES = [f"step {number} loss 0.{number}" for number in range(6)] + ["step 5 loss 0.5", "", "déjà vu"]  # the same line twice is two lines


@pytest.mark.parametrize("faults", [(), ("AppCountLogs", "AppFetchLogs"), ("FunctionGetOutputs",), ("AppFetchLogs",) * 3])
def test_every_line_once(modal_place: ModalPlace, monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...]) -> None:
    """The log comes in pieces that are no lines; between two looks the run goes on, or an answer fails."""
    monkeypatch.setattr(_modal_logs, "TRIES", 5)
    handle, cloud = started(modal_place), modal_place.cloud
    call = cloud.calls[handle["call_id"]]
    at = time.time() - 30
    text = "\n".join(LINES) + "\n"
    pieces = iter([text[start : start + 7] for start in range(0, len(text), 7)] + ["the rest"])
    fault = iter(faults)

    def goes_on(_: float) -> None:
        modal_place.heal()
        if (rpc := next(fault, None)) is not None:
            cloud.server.faults[rpc] = Grpc.UNAVAILABLE
        for _ in range(4):
            piece = next(pieces, None)
            if piece is None:
                if call.result is None:
                    cloud.ends(call.id, value=DONE)
                return
            call.log.append((at + len(call.log) // 3, piece))  # several at the same moment

    monkeypatch.setattr(_modal_api, "sleep", goes_on)
    assert list(target.logs(handle, follow=True)) == [*LINES, "the rest"]
    assert list(target.logs(handle, follow=False)) == [*LINES, "the rest"]


def test_cancelling_twice(modal_place: ModalPlace) -> None:
    handle = started(modal_place)
    target.cancel(handle)
    target.cancel(handle)
    assert target.status(handle).state == "cancelled"
    second = {**started(modal_place, "run-2"), "call_id": ""}
    target.cancel(second)
    assert target.status({**second, "call_id": list(modal_place.cloud.calls)[-1]}).state == "cancelled"


def checkpoint(place: ModalPlace, step: str, size: int, *, whole: bool = True) -> None:
    for name, data in {"pretrained_model/train_config.json": b"{}", "pretrained_model/model.safetensors": bytes(size),
                       **({"training_state/training_step.json": b"{}"} if whole else {})}.items():  # fmt: skip
        place.cloud.put(OUTPUTS, f"pick-1/checkpoints/{step}/{name}", data)


def test_the_newest_whole_checkpoint_is_fetched(modal_place: ModalPlace, tmp_path: Path) -> None:
    handle, job, said = started(modal_place), modal_place.job("run-1"), list[str]()
    with pytest.raises(Unreachable, match="no checkpoint yet"):
        target.fetch(handle, job, tmp_path / "to", said.append)
    checkpoint(modal_place, "000900", 10)
    checkpoint(modal_place, "001000", 20_000_000)
    checkpoint(modal_place, "001100", 20, whole=False)
    files = target.fetch(handle, job, tmp_path / "to", said.append)
    assert sorted(str(path.relative_to(tmp_path / "to")) for path in files) == ["model.safetensors", "train_config.json"]
    assert (tmp_path / "to" / "model.safetensors").read_bytes() == bytes(20_000_000), "several of Modal's blocks"
    assert "model.safetensors (20,000,000 bytes)" in said
    asked = modal_place.cloud.server.seen.count("VolumeGetFile2")
    assert target.fetch(handle, job, tmp_path / "to", said.append) == files
    assert modal_place.cloud.server.seen.count("VolumeGetFile2") == asked, "what is there is not copied again"


def test_the_bill(modal_place: ModalPlace) -> None:
    handle, cloud = started(modal_place), modal_place.cloud
    assert target.bill(handle) is None
    hours_ago = datetime.now(timezone.utc).timestamp() - 3 * 3600
    handle["since"] = datetime.fromtimestamp(hours_ago, timezone.utc).isoformat()
    told(modal_place, handle, "succeeded")
    assert target.bill(handle) is None, "no row of it"
    ours = {"plan-run-id": "run-1"}
    for cost, app, tags in (("1.25", handle["app_id"], {}), ("0.50", "other", ours), ("9", "other", {"plan-run-id": "x"})):
        cloud.bills.append(api_pb2.WorkspaceBillingReportItem(object_id=app, cost=cost, tags=tags))
    assert target.bill(handle) == Decimal("1.75")
    told(modal_place, handle, "succeeded", seen_at=time.time())
    assert target.bill(handle) is None, "its hour is not over"
    told(modal_place, handle, "succeeded")
    cloud.server.faults["WorkspaceBillingReport"] = Grpc.PERMISSION_DENIED
    assert target.bill(handle) is None


def test_looked_at_before(modal_place: ModalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = modal_place.cloud
    job = modal_place.job("run-1", dataset="me/pick", dataset_root="/home/me/pick")._replace(usd_per_hour="2.40")
    bad = {check.name: check for check in target.preflight(job) if check.ok is False}
    assert list(bad) == ["dataset"] and f"modal volume put {DATASETS}" in bad["dataset"].fix
    root = next(flag for flag in job.trainer if flag.startswith("--dataset.root=/datasets/")).removeprefix("--dataset.root=/datasets/")
    cloud.put(DATASETS, f"{root}/meta/info.json", b"{}")
    assert not [check for check in target.preflight(job) if check.ok is False]
    cloud.secrets = {"huggingface-secret": {"OTHER"}}
    bad = {check.name: check for check in target.preflight(job) if check.ok is False}
    assert bad["secret wandb-secret"].fix == "modal secret create wandb-secret WANDB_API_KEY=YOUR_VALUE"
    assert bad["secret huggingface-secret"].fix.startswith("modal secret create huggingface-secret HF_TOKEN=YOUR_VALUE --force")
    assert {check.exit_code for check in bad.values()} == {6}
    price = next(check for check in target.preflight(job._replace(usd_per_hour="1.00")) if check.name == "price")
    assert price.ok is False and price.exit_code == 5 and "$2.40/h" in price.text
    assert "AppCreate" not in cloud.server.seen and not {"st", "VolumePutFiles"} & set(cloud.server.seen)
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "")
    monkeypatch.setattr("modal.client._Client._client_from_env", None)
    first = next(check for check in target.preflight(job) if check.ok is False)
    assert (first.name, first.exit_code) == ("token", 6) and "modal setup" in first.fix


def test_no_token(modal_place: ModalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert target.account(None) == "me" and target.account("ours") == "ours"
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-canary-of-somebody")
    monkeypatch.setattr("modal.client._Client._client_from_env", None)
    with pytest.raises(NotAuthorised, match="modal setup") as refused:
        started(modal_place)
    assert "canary" not in refused.value.text and TOKEN_ID not in refused.value.text


def test_nobody_listens(modal_place: ModalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client alone tries a dead port for a minute."""
    handle, job = started(modal_place), modal_place.job("run-1")
    monkeypatch.setenv("MODAL_SERVER_URL", NOWHERE)
    for limit in ("ANSWER_S", "BUILD_S"):
        monkeypatch.setattr(_modal_api, limit, 0.2)
    for call in (lambda: target.status(handle), lambda: target.find(job), lambda: target.submit(job), lambda: target.account(None)):
        monkeypatch.setattr("modal.client._Client._client_from_env", None)
        with pytest.raises(Unreachable, match="no answer in time"):
            call()
    monkeypatch.setattr("modal.client._Client._client_from_env", None)
    assert any(check.ok is False and check.exit_code == 7 for check in target.preflight(job))


# ------------------------------------------------------------------------------------------ for real


@pytest.fixture
def real(modal_place: ModalPlace, tmp_path: Path) -> ModalPlace:
    """Calls are run; their trainer saves three checkpoints and stops at the second until somebody ends it."""
    program = tmp_path / "bin" / "lerobot-train"
    program.parent.mkdir()
    program.write_text(TRAINER.format(python=sys.executable))
    program.chmod(0o755)
    for name in ("until", "until.never"):
        os.mkfifo(tmp_path / name)
    modal_place.cloud.execute = True
    modal_place.cloud.environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes"),
                                     "UNTIL": str(tmp_path / "until"), "HF_TOKEN": "x", "WANDB_API_KEY": "x"}  # fmt: skip
    return modal_place


def trained(tmp_path: Path) -> list[list[str]]:
    """The arguments of every training that was started."""
    return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def over(place: ModalPlace, handle: Handle) -> None:
    assert place.cloud.calls[handle["call_id"]].over.wait(60), place.cloud.calls[handle["call_id"]].log


def test_a_run_that_is_preempted_resumes_and_finishes(real: ModalPlace, tmp_path: Path) -> None:
    handle = started(real)
    (tmp_path / "until").read_text()  # the second checkpoint is saved
    assert target.status(handle).state == "running"
    real.cloud.preempt(handle["call_id"])
    over(real, handle)
    status = target.status(handle)
    assert (status.state, status.exit_code) == ("succeeded", 0) and status.running_s and status.running_s > 0
    first, second = trained(tmp_path)
    assert "--resume=true" in second and not any(flag.startswith("--resume") for flag in first)
    lines = list(target.logs(handle, follow=True))
    steps = [line.split()[0] for line in lines if line.startswith("step:")]
    assert steps == ["step:1", "step:2", "step:3"], "nothing is trained twice"
    assert [path.name for path in target.fetch(handle, real.job("run-1"), tmp_path / "to", print)] == [
        "model.safetensors", "train_config.json"]
    assert (tmp_path / "to" / "model.safetensors").stat().st_size == 1003
    # the same training launched again finds it finished
    again = started(real, "run-2")
    over(real, again)
    assert target.status(again).state == "succeeded" and len(trained(tmp_path)) == 2


def test_a_timeout_takes_a_retry_and_goes_on(real: ModalPlace, tmp_path: Path) -> None:
    handle = started(real, attempts=2)
    (tmp_path / "until").read_text()
    real.cloud.time_out(handle["call_id"])
    over(real, handle)
    assert target.status(handle).state == "succeeded" and len(trained(tmp_path)) == 2


def test_the_last_timeout_is_the_end(real: ModalPlace, tmp_path: Path) -> None:
    handle = started(real)
    (tmp_path / "until").read_text()
    real.cloud.time_out(handle["call_id"])
    over(real, handle)
    assert target.status(handle).state == "timed_out"


def test_a_failure_is_told_and_left_on_the_volume(real: ModalPlace, tmp_path: Path) -> None:
    real.cloud.environment["FAILS"] = "1"
    handle = started(real)
    (tmp_path / "until").read_text()
    over(real, handle)
    assert target.status(handle)[:2] == ("failed", "the trainer ended with exit code 1") and target.status(handle).exit_code == 1
    lines = list(target.logs(handle, follow=False))
    assert "CUDA out of memory" in lines and lines[-1] == "(committed)"
    status = json.loads((real.cloud.volume(OUTPUTS) / "pick-1.status.json").read_text())
    assert status["state"] == "failed" and status["progress"] and "CUDA out of memory" in status["message"]


def test_a_cancelled_run_ends_its_trainer(real: ModalPlace, tmp_path: Path) -> None:
    handle = started(real)
    (tmp_path / "until").read_text()
    target.cancel(handle)
    over(real, handle)
    assert target.status(handle).state == "cancelled"
    status = json.loads((real.cloud.volume(OUTPUTS) / "pick-1.status.json").read_text())
    assert status["state"] == "interrupted" and (tmp_path / "notes").exists()
