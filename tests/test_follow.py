"""A run is followed to its end whatever its log does; its end stands beside its plan and becomes evidence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from planner import api, diagnose, follow, launch, reconcile
from planner.diagnose import cause
from planner.errors import Unreachable
from planner.estimate import Estimator
from planner.follow import Progress, events, read_line
from planner.job import Handle, Job, Output, Status
from planner.recipes.lerobot import job as make
from planner.runs import Ledger
from planner.show import document
from tests.factories import estimate, offer, workload
from tests.places import Scripted

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
RUNNING, DONE = Status("running"), Status("succeeded", running_s=3600.0, waiting_s=60.0)
FAST = 0.01  # seconds between questions


def job(**fields: object) -> Job:
    made = make(estimate(offer("hf")), workload("act"), target="hf", output=Output("hub", "me/out"), name="act-pick-000000")
    return made._replace(labels={launch.LABEL: "act-pick-000000-aaaaa"})._replace(**fields)  # type: ignore[arg-type]


class TestEvents:
    def test_every_line_then_the_end(self) -> None:
        place = Scripted(log=["one", "two"], states=[Status("queued"), RUNNING, DONE])
        told = list(events(place, {}, FAST))
        assert [line for line in told if isinstance(line, str)] == ["one", "two"]
        assert [one.state for one in told if isinstance(one, Status)] == ["queued", "running", "succeeded"]

    def test_a_log_that_hangs_hides_no_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follow, "LAST_LINES_S", FAST)
        hang = threading.Event()

        class Hanging(Scripted):
            def logs(self, handle: Handle, *, follow: bool) -> Iterator[str]:
                yield "begun"
                hang.wait()

        assert list(events(Hanging(states=[RUNNING, DONE]), {}, FAST)) == [RUNNING, "begun", DONE]
        hang.set()

    def test_a_log_that_is_refused_is_said_and_the_states_go_on(self) -> None:
        place = Scripted(log=["one"], states=[RUNNING, DONE])
        place.fails["logs"] = [Unreachable("hf", "the Hub failed (500)")]
        assert list(events(place, {}, FAST)) == [RUNNING, "one", "plan: the Hub failed (500)", DONE]

    def test_a_place_that_does_not_answer_is_asked_again_but_not_for_ever(self) -> None:
        place = Scripted(states=[DONE])
        place.fails["status"] = [Unreachable("hf", "no answer")] * (follow.MOST_FAILURES - 1)
        assert list(events(place, {}, FAST)) == [DONE]
        place.fails["status"] = [Unreachable("hf", "no answer")] * follow.MOST_FAILURES
        with pytest.raises(Unreachable):
            list(events(place, {}, FAST))


def test_how_far_a_training_is() -> None:
    at = read_line("Training:  68%|██████▊   | 1360/2000 [02:00<01:00, 11.18step/s]", Progress())
    assert (at.step, at.steps, at.remaining_s) == (1360, 2000, None)
    at = read_line("INFO 2026-11-20 20:19:40 ot_train.py:769 step:1K smpl:60 ep:5 epch:1.25 loss:0.698 updt_s:0.400 data_s:0.100 ", at)
    assert (at.step, at.loss, at.step_s, at.remaining_s) == (1360, 0.698, 0.5, 320.0)
    assert read_line("Map: 100%|██████████| 12/12 [00:00<00:00, 493.25 examples/s]", at) == at


@pytest.mark.parametrize(("line", "code", "fix"), [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", "out-of-memory", "--batch-size 4"),
    ("OSError: [Errno 28] No space left on device", "disk", "--save_freq"),
    ("huggingface_hub.errors.GatedRepoError: 403 Client Error. Access to model google/x is restricted", "gated", "licence"),
    ("wandb: ERROR api_key not configured (no-tty)", "wandb-key", "WANDB_API_KEY"),
    ("plan guard: 1 GPU asked for, torch sees 0", "no-gpu", "--gpu"),
    ("ModuleNotFoundError: No module named 'transformers'", "missing-package", "--lerobot-version"),
    ("FileExistsError: Output directory outputs/train already exists", "output-exists", "plan resume"),
    ("RuntimeError: DataLoader worker (pid 71) is killed by signal: Killed.", "shared-memory", "--num_workers"),
])  # fmt: skip
def test_causes_and_what_mends_them(line: str, code: str, fix: str) -> None:
    found = cause(["loading", line, "  at exit"], Status("failed"), job())
    assert found and found.code == code and fix in found.fix


def test_a_timeout_is_no_failure_and_what_nobody_knows_is_not_guessed() -> None:
    timeout = cause(["fine", "CUDA out of memory"], Status("timed_out"), job(timeout_s=7200))
    assert timeout and (timeout.code, "2.0 h" in timeout.text) == ("timeout", True)
    assert cause(["Traceback", "KeyError: 'x'"], Status("failed"), job()) is None
    assert cause(["CUDA out of memory, retried"], Status("succeeded"), job()) is None
    killed = cause(["step"], Status("failed", exit_code=137), job())
    assert killed and killed.code == "host-memory"


def test_the_last_lines_hold_one_of_a_progress_bar() -> None:
    log = [f"Training:  {n}%|███| {n}/100 [00:01<00:01]" for n in range(50)] + ["", "Traceback (most recent call last):", "ValueError: x"]
    assert diagnose.tail(log) == ["Training:  49%|███| 49/100 [00:01<00:01]", "Traceback (most recent call last):", "ValueError: x"]


class TestEnd:
    def finish(self, tmp_path: Path, place: Scripted, status: Status) -> tuple[Ledger, reconcile.Ended]:
        planned = api.plan(api.Workload(policy="act", frames=45_000, cameras=("2x640x480",), steps=20_000), api.Search(gpus=("l4x1",)))
        assert planned.recommended
        shown = {**document.document(planned), "estimates": [document.estimate(planned.estimate(planned.recommended.id))]}
        ledger = Ledger(tmp_path / "runs.sqlite")
        one = job()
        entry = launch.launch(one, launch.entry(one, shown, Decimal(3), NOW), place, ledger)
        known, calibration = api._data()
        return ledger, reconcile.finish(entry, status, place, ledger, Estimator(known, calibration), NOW)

    def log(self) -> list[str]:
        name = Path(__file__).parent / "logs" / "lerobot-0.6.1.log"
        on_a_gpu = name.read_text(encoding="utf-8").replace("'device': 'cpu'", "'device': 'cuda'")
        return on_a_gpu.replace("num_total_params=11451010", "num_total_params=51597190").split("\n")

    def test_planned_and_actual_stand_side_by_side(self, tmp_path: Path) -> None:
        place = Scripted(log=self.log())
        place.billed = Decimal("1.25")
        ledger, ended = self.finish(tmp_path, place, DONE)
        entry = ledger.get("last")
        assert entry == ended.entry and (entry.state, entry.usd_spent) == ("succeeded", Decimal("1.25"))
        assert entry.actual and entry.actual["running_s"] == 3600.0 and entry.actual["step_s"] > 0
        assert reconcile.planned(entry, "usd", "p50") > 0 and entry.usd_max == Decimal(3)
        assert reconcile.running_usd(entry, 1800) == Decimal("0.4")

    def test_the_measurement_is_evidence(self, tmp_path: Path) -> None:
        _, ended = self.finish(tmp_path, Scripted(log=self.log()), DONE)
        [(name, row)] = ended.evidence.items()
        assert name.startswith("own-") and (row["policy"], row["gpu"], row["source"]) == ("act", "l4", "run act-pick-000000-aaaaa")

    @pytest.mark.parametrize("fails", ["logs", "bill"])
    def test_the_end_is_written_down_whatever_else_fails(self, tmp_path: Path, fails: str) -> None:
        place = Scripted(log=["nothing to read"])
        place.fails[fails] = [Unreachable("hf", "the Hub failed")]
        ledger, ended = self.finish(tmp_path, place, Status("failed", "exit code 1", exit_code=1))
        assert (ledger.get("last").state, ledger.get("last").message, ended.evidence) == ("failed", "exit code 1", {})
