"""`plan --launch` and the commands around it as a user meets them: the installed `plan`, the real client, a Hub on this machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from planner import follow
from planner.commands import main
from tests.desk import LAUNCH, SCRIPT, WANDB, Desk, dataset
from tests.servers import hf_jobs
from tests.test_datasets import info

LOG = (Path(__file__).parents[1] / "logs" / "lerobot-0.6.1.log").read_text(encoding="utf-8").replace("'device': 'cpu'", "'device': 'cuda'")
#: as of the full-sized ACT at its own batch size and chunk
LOG = LOG.replace("num_total_params=11451010", "num_total_params=51597190").replace("'batch_size': 2", "'batch_size': 8")
LOG = LOG.replace("batch size: 2 x 1 = 2", "batch size: 8 x 1 = 8").replace("'chunk_size': 4", "'chunk_size': 100")
QUESTION = re.compile(
    r"Launch on hf l4x1: expected \$\d+\.\d\d \(\d+\.\d\d–\d+\.\d\d\), at most \$\d+\.\d\d, "
    r"stops after (\d+ h )?\d+ min\. Proceed\? \[y/N\] "
)
JOB = "/api/jobs/me/job1"
LOGS = f"{JOB}/logs"


@pytest.fixture
def hub() -> Iterator[hf_jobs.Hub]:
    with hf_jobs.serve() as running:
        running.live = True
        dataset(running)
        yield running


@pytest.fixture
def desk(tmp_path: Path, hub: hf_jobs.Hub) -> Desk:
    return Desk(tmp_path / "desk", hub)


def launched(desk: Desk, *more: str) -> str:
    """A run that was started and left; its id."""
    done = desk.plan(*LAUNCH, *SCRIPT, "--detach", "-q", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(desk: Desk, done: Any, exit_code: int, *parts: str) -> str:
    """Nothing was sent and nothing is in the ledger; the reason is the last line of stderr."""
    lines = done.stderr.splitlines()
    assert done.returncode == exit_code, done.stderr
    assert [line.startswith("error: ") for line in lines] == [False] * (len(lines) - 1) + [True], done.stderr
    assert all(part in lines[-1] for part in parts), lines[-1]
    assert desk.hub.asked("POST", "/api/jobs/me") == 0 and not desk.hub.jobs
    return lines[-1]


class TestTheQuestion:
    @pytest.mark.parametrize("types", ["y\n", "YES\n"])
    def test_yes(self, desk: Desk, types: str) -> None:
        said = desk.terminal(*LAUNCH, "--detach", types=types)
        table, _, after = said.text.partition("Launch on ")
        assert said.returncode == 0 and "hf l4x1: the cheapest that fits" in table, said.text
        assert QUESTION.search(said.text) and "plan logs act-pick-" in after
        assert len(desk.hub.jobs) == 1

    @pytest.mark.parametrize("types", ["n\n", "\n", "\x04", "yess\n", " \n"])
    def test_everything_else_is_no(self, desk: Desk, types: str) -> None:
        said = desk.terminal(*LAUNCH, types=types)
        assert said.returncode == 8 and QUESTION.search(said.text), said.text
        assert said.text.rstrip().splitlines()[-1].endswith("error: nothing was launched")
        assert not desk.hub.jobs and desk.runs() == []

    def test_ctrl_c(self, desk: Desk) -> None:
        said = desk.terminal(*LAUNCH, types="\x03")
        assert said.returncode == 130 and not desk.hub.jobs and desk.runs() == []

    def test_max_cost_and_timeout_are_what_it_says(self, desk: Desk) -> None:
        said = desk.terminal(*LAUNCH, "--max-cost", "0.50", "--detach", types="y\n")
        [job] = desk.hub.jobs.values()
        at_most = float(re.search(r"at most \$(\d+\.\d\d)", said.text)[1])  # type: ignore[index]
        hours, minutes = re.search(r"stops after (?:(\d+) h )?(\d+) min", said.text).groups(default="0")  # type: ignore[union-attr]
        assert at_most <= 0.5 and job.body["timeoutSeconds"] <= (int(hours) * 60 + int(minutes)) * 60 <= job.body["timeoutSeconds"] + 59

    @pytest.mark.parametrize("said", [(), ("--yes",), ("--max-cost", "5")])
    def test_without_a_terminal_yes_and_a_bound_are_needed(self, desk: Desk, said: tuple[str, ...]) -> None:
        reason = refused(desk, desk.plan(*LAUNCH, *said), 2, "--yes", "--max-cost")
        assert "Launch on hf l4x1: expected $" in reason and desk.runs() == []


class TestWhatIsSent:
    @pytest.mark.parametrize("more", [(), ("--namespace", hf_jobs.ORG), ("--repo-id", "me/mine"), ("--attempts", "2"),
                                      ("--", "--wandb.enable=true", "--seed=7")])  # fmt: skip
    def test_a_dry_run_shows_what_a_launch_sends(self, desk: Desk, more: tuple[str, ...]) -> None:
        before, tail = (more, ()) if more[:1] != ("--",) else ((), more)
        dry = desk.plan(*LAUNCH, *SCRIPT, "--dry-run", *before, *tail)
        assert dry.returncode == 0 and "nothing was sent" in dry.stderr
        shown = json.loads(dry.stdout)
        assert not desk.hub.jobs and desk.hub.asked("POST", shown["path"]) == 0 and desk.runs() == []
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach", *before, *tail)
        assert done.returncode == 0, done.stderr
        [(method, path, sent)] = [one for one in desk.hub.received if one[0] == "POST"]
        body = json.loads(sent)
        assert (shown["method"], shown["path"].replace("/YOU", "/me")) == (method, path)
        assert body["secrets"]["HF_TOKEN"] == hf_jobs.TOKEN and body["secrets"].get("WANDB_API_KEY") == (WANDB if tail else None)
        body["secrets"] = dict.fromkeys(body["secrets"], "***")
        runs = [one["labels"].pop("plan-run-id") for one in (shown["body"], body)]
        assert [one["labels"].pop("name") for one in (shown["body"], body)] == runs  # an id for each launch
        assert shown["body"] == body

    def test_who_pays_and_where_the_model_goes(self, desk: Desk) -> None:
        launched(desk, "--namespace", hf_jobs.ORG, "--repo-id", "me/mine")
        [job] = desk.hub.jobs.values()
        assert job.namespace == hf_jobs.ORG and "--policy.repo_id=me/mine" in job.body["command"]
        launched(desk, "--namespace", hf_jobs.ORG)
        assert any(word.startswith(f"--policy.repo_id={hf_jobs.ORG}/act-pick-") for word in desk.hub.jobs["job2"].body["command"])

    def test_json_is_one_document(self, desk: Desk) -> None:
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach", "--json")
        document = json.loads(done.stdout)
        assert done.returncode == 0 and document["schema"] == "runs/1"
        [run] = document["runs"]
        assert (run["state"], run["handle"]["job_id"], run["target"], run["flavor"]) == ("queued", "job1", "hf", "l4x1")
        assert [one["id"] for one in desk.runs()] == [run["id"]]

    def test_quiet_is_the_id(self, desk: Desk) -> None:
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach", "-q")
        assert done.stdout == desk.runs()[0]["id"] + "\n"


class TestFollowing:
    def test_to_a_good_end(self, desk: Desk) -> None:
        plan, hub = desk.start(*LAUNCH, *SCRIPT), desk.hub
        hub.wait_asked("GET", f"{JOB}/metrics")  # which is asked once it was told how the run is
        hub.advance("job1", "RUNNING", "one", "two")
        hub.advance("job1", "COMPLETED", *LOG.splitlines(), running_s=900)
        done = desk.end(plan)
        assert done.returncode == 0, done.stderr
        assert "queued\n" in done.stderr and "\none\ntwo\n" in done.stderr and "step:" in done.stderr and "succeeded" in done.stderr
        [run] = desk.runs()
        assert run["state"] == "succeeded" and run["actual"]["running_s"] == 900 and run["actual"]["step_s"] > 0
        evidence = (desk.home / "config" / "catalogue" / "evidence.yaml").read_text()
        assert run["id"] in evidence and "policy: act" in evidence and "gpu: l4" in evidence
        again = desk.plan(*LAUNCH[:-1])
        assert "●" in again.stdout and again.returncode == 0, again.stdout

    def test_no_learn(self, desk: Desk) -> None:
        plan = desk.start(*LAUNCH, *SCRIPT, "--no-learn")
        desk.hub.wait_asked("GET", LOGS)
        desk.hub.advance("job1", "COMPLETED", *LOG.splitlines(), running_s=900)
        assert desk.end(plan).returncode == 0 and desk.runs()[0]["actual"]["step_s"] > 0
        assert not (desk.home / "config" / "catalogue" / "evidence.yaml").exists()

    def test_to_a_bad_end(self, desk: Desk) -> None:
        plan = desk.start(*LAUNCH, *SCRIPT)
        desk.hub.wait_asked("GET", LOGS)
        desk.hub.advance("job1", "ERROR", "loading", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
                         message="Job failed with exit code: 1", running_s=70)  # fmt: skip
        done = desk.end(plan)
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 10 and last.startswith("error: act-pick-") and "--batch-size 4" in last, done.stderr
        assert "likely cause" in done.stderr and "CUDA out of memory" in done.stderr
        [run] = desk.runs()
        assert (run["state"], run["actual"]["exit_code"]) == ("failed", 1)
        status = json.loads(desk.plan("status", "--json").stdout)["runs"][0]
        assert status["cause"]["code"] == "out-of-memory" and "--batch-size 4" in status["cause"]["fix"]
        assert "--batch-size 4" in desk.plan("status").stdout

    def test_stopped_at_its_timeout(self, desk: Desk) -> None:
        plan = desk.start(*LAUNCH, *SCRIPT)
        desk.hub.wait_asked("GET", LOGS)
        desk.hub.advance("job1", "ERROR", "step 5", message="Job timeout", running_s=2700)
        done = desk.end(plan)
        assert done.returncode == 10 and "timed out" in done.stderr.splitlines()[-1], done.stderr
        assert desk.runs()[0]["state"] == "timed_out"

    @pytest.mark.parametrize(("stage", "exit_code"), [("COMPLETED", 0), ("ERROR", 10)])
    def test_json_is_one_document_with_the_end(self, desk: Desk, stage: str, exit_code: int) -> None:
        plan = desk.start(*LAUNCH, *SCRIPT, "--json")
        desk.hub.wait_asked("GET", LOGS)
        desk.hub.advance("job1", stage, "CUDA out of memory", running_s=70)
        done = desk.end(plan)
        assert done.returncode == exit_code, done.stderr
        document = json.loads(done.stdout)
        assert document["schema"] == "runs/1" and document["runs"][0]["state"] == {0: "succeeded", 10: "failed"}[exit_code]
        if exit_code:
            assert document["runs"][0]["cause"]["code"] == "out-of-memory"

    def test_ctrl_c_leaves_it_running(self, desk: Desk) -> None:
        plan = desk.start(*LAUNCH, *SCRIPT)
        desk.hub.wait_asked("GET", LOGS)
        plan.send_signal(signal.SIGINT)
        done = desk.end(plan)
        [run] = desk.runs()
        assert done.returncode == 0 and run["state"] == "queued" and desk.hub.jobs["job1"].stage == "SCHEDULING", done.stderr
        assert f"plan logs {run['id']} --follow" in done.stderr and f"plan cancel {run['id']}" in done.stderr

    def test_ctrl_c_in_a_terminal(self, desk: Desk) -> None:
        said = desk.terminal(*LAUNCH, *SCRIPT, types="\x03", when="launched act-pick-")
        [run] = desk.runs()
        assert said.returncode == 0 and f"plan logs {run['id']} --follow" in said.text and len(desk.hub.jobs) == 1, said.text

    def test_in_a_terminal_with_a_bar(self, desk: Desk) -> None:
        with ThreadPoolExecutor(1) as hand:
            watched = hand.submit(desk.terminal, *LAUNCH, types="y\n")
            desk.hub.wait_asked("GET", f"{JOB}/metrics")
            desk.hub.advance("job1", "RUNNING", *LOG.splitlines(), "[bold]and then")
            desk.hub.advance("job1", "COMPLETED", running_s=900)
            said = watched.result()
        assert said.returncode == 0 and "60/60 · loss 61.2" in said.text and "[bold]and then" in said.text, said.text
        assert "Training:  98%" not in said.text and "succeeded" in said.text.rpartition("[bold]and then")[2]

    def test_a_place_that_answers_no_more(self, desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        """It is asked some times; then the run is left, and how to come back is said."""
        run = launched(desk)
        for name, value in desk.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(follow, "events", partial(follow.events, every_s=0.01))
        desk.hub.fail("inspect", "503")
        assert main(["logs", "--follow"]) == 7
        said = capfd.readouterr().err
        assert f"left running: plan logs {run} --follow" in said and said.splitlines()[-1].startswith("error: hf did not say how")

    def test_coming_back(self, desk: Desk) -> None:
        run = launched(desk)
        desk.hub.advance("job1", "RUNNING", "one")
        plan = desk.start("logs", run, "--follow")
        desk.hub.wait_asked("GET", f"{JOB}/metrics")
        desk.hub.advance("job1", "COMPLETED", "two", running_s=60)
        done = desk.end(plan)
        assert done.returncode == 0 and "running\n" in done.stderr and "one\ntwo\n" in done.stderr, done.stderr
        assert desk.runs()[0]["state"] == "succeeded"


class TestTwice:
    def test_the_same_again_is_asked_for(self, desk: Desk) -> None:
        run = launched(desk)
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach")
        assert done.returncode == 8 and run in done.stderr and "--again" in done.stderr and len(desk.hub.jobs) == 1
        second = launched(desk, "--again")
        assert len(desk.hub.jobs) == 2 and [one["id"] for one in desk.runs()] == [second, run]

    def test_once_it_has_ended_it_may_be_launched_again(self, desk: Desk) -> None:
        launched(desk)
        desk.hub.advance("job1", "ERROR", running_s=10)
        launched(desk)
        assert len(desk.hub.jobs) == 2

    def test_the_table_names_commands_that_work(self, desk: Desk) -> None:
        shown = desk.plan(*LAUNCH, "--yes", "--max-cost", "5", "-d").stdout
        commands = re.findall(r"  (plan .+)$", shown, re.M)
        assert len(commands) == 2
        for one in commands:
            assert desk.plan(*shlex.split(one)[1:]).returncode == 0, one
        assert len(desk.hub.jobs) == 1

    def test_two_at_the_same_moment(self, desk: Desk) -> None:
        both = [desk.start(*LAUNCH, *SCRIPT, "--detach", "-q") for _ in range(2)]
        ends = sorted((desk.end(one) for one in both), key=lambda end: end.returncode)
        assert len(desk.hub.jobs) == 1 and ends[0].returncode == 0 and ends[1].returncode in (8, 9), [end.stderr for end in ends]
        assert [one["id"] for one in desk.runs()] == [ends[0].stdout.strip()] and ends[0].stdout.strip() in ends[1].stderr

    @pytest.mark.parametrize("fault", ["dropped-after", "html-after", "500"])
    def test_a_lost_reply(self, desk: Desk, fault: str) -> None:
        desk.hub.fail("submit", fault, 1)
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach", "-q")
        if fault == "500":  # refused before it acted, but who is to know
            assert done.returncode == 9 and not desk.hub.jobs and "plan status" in done.stderr
            return
        assert done.returncode == 0 and len(desk.hub.jobs) == 1, done.stderr
        [run] = desk.runs()
        assert (run["id"], run["state"], run["message"]) == (done.stdout.strip(), "queued", None)

    def test_a_lost_reply_that_cannot_be_looked_for_is_adopted_later(self, desk: Desk) -> None:
        desk.hub.fail("submit", "dropped-after", 1)
        desk.hub.fail("list", "503", 1)
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach")
        assert done.returncode == 9 and len(desk.hub.jobs) == 1, done.stderr
        run = re.search(r"plan status (act-pick-[\w-]+)", done.stderr)[1]  # type: ignore[index]
        status = desk.plan("status", run)
        assert status.returncode == 0 and f"{run}, whose reply was lost, was found on hf" in status.stderr and "queued" in status.stdout
        assert desk.plan(*LAUNCH, *SCRIPT, "--detach").returncode == 8 and len(desk.hub.jobs) == 1

    def test_it_is_looked_for_in_the_account_that_paid(self, desk: Desk) -> None:
        """Also after another login; else the job would be given up, and sent again."""
        desk.hub.fail("submit", "dropped-after", 1)
        desk.hub.fail("list", "503", 1)
        assert desk.plan(*LAUNCH, *SCRIPT, "--detach").returncode == 9
        desk.hub.who = {**desk.hub.who, "name": "somebody-else"}
        assert [one["state"] for one in desk.runs()] == ["queued"]

    def test_what_never_arrived_is_not_sent_again_until_that_is_sure(self, desk: Desk) -> None:
        desk.hub.fail("submit", "dropped-before", 1)
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach")
        assert done.returncode == 9 and not desk.hub.jobs, done.stderr
        assert "reply missing" in desk.plan("status").stdout
        for again in ((), ("--again",)):
            assert desk.plan(*LAUNCH, *SCRIPT, "--detach", *again).returncode == 9 and not desk.hub.jobs
        assert [desk.plan(command).returncode for command in ("cancel", "logs", "fetch", "bill")] == [2, 2, 2, 0]
        with sqlite3.connect(desk.home / "state" / "runs.sqlite") as ledger:  # a quarter of an hour later
            [(begun,)] = ledger.execute("SELECT created_at FROM runs")
            earlier = datetime.fromisoformat(begun) - timedelta(minutes=15)
            ledger.execute("UPDATE runs SET created_at = ?", (earlier.isoformat(timespec="microseconds"),))
        status = desk.plan("status")
        assert "was never taken on hf" in status.stderr and "never started" in status.stdout, status.stderr + status.stdout
        launched(desk)
        assert len(desk.hub.jobs) == 1

    @pytest.mark.parametrize("fault", ["hangs-before", "hangs-after"])
    def test_ctrl_c_while_it_is_sent(self, desk: Desk, fault: str) -> None:
        """Nobody knows whether the place took it: that is said, and the next command looks."""
        desk.hub.fail("submit", fault, 1)
        plan = desk.start(*LAUNCH, *SCRIPT)
        desk.hub.wait_asked("POST", "/api/jobs/me")
        plan.send_signal(signal.SIGINT)
        done = desk.end(plan)
        assert done.returncode == 9 and "plan status act-pick-" in done.stderr.splitlines()[-1], done.stderr
        desk.hub.heal()
        desk.hub.wait_quiet()
        acted = fault == "hangs-after"
        assert len(desk.hub.jobs) == acted and [one["state"] for one in desk.runs()] == ["queued" if acted else "submitting"]


class TestRefused:
    """What is missing is said before anything is asked or sent, in one line."""

    @pytest.mark.parametrize(("case", "exit_code", "said"), [
        ("read-token", 6, "token may only read"), ("no-login", 6, "hf auth login"), ("bad-token", 6, "hf auth login"),
        ("gone", 7, "no l4x1"), ("dearer", 5, "--live"), ("no-dataset", 2, "me/pick"), ("untagged", 2, "no tag"),
        ("namespace", 6, "--namespace"), ("down", 7, "try again"),
    ])  # fmt: skip
    def test_before_the_question(self, desk: Desk, case: str, exit_code: int, said: str) -> None:
        hub, more, environment = desk.hub, (), {}
        if case == "read-token":
            hub.who["auth"] = {"accessToken": {"role": "read"}}
        elif case == "no-login":
            environment, more = {"HF_TOKEN": ""}, ("--frames", "9000")
        elif case == "bad-token":
            environment, more = {"HF_TOKEN": "hf_" + "stranger" * 4}, ("--frames", "9000")
        elif case == "gone":
            hub.hardware = [one for one in hub.hardware if one["name"] != "l4x1"]
        elif case == "dearer":
            hub.hardware[1] |= {"unitCostMicroUSD": 20_000, "unitCostUSD": 0.02}
        elif case == "no-dataset":
            hub.repos.clear()
        elif case == "untagged":
            hub.repos["datasets/me/pick"]["tags"] = []
        elif case == "namespace":
            more = ("--namespace", "strangers", "--repo-id", "me/mine")
        elif case == "down":
            hub.fail("whoami", "503")
        done = desk.plan(*LAUNCH, *SCRIPT, *more, **environment)
        reason = refused(desk, done, exit_code, said)
        assert "job1" not in reason and desk.runs() == []

    @pytest.mark.parametrize(("fault", "exit_code", "said"), [
        ("402", 7, "no credit"), ("401", 6, "hf auth login"), ("403", 6, "job.write"), ("429", 7, "in 7 s"), ("400", 2, "--dry-run"),
    ])  # fmt: skip
    def test_by_the_place(self, desk: Desk, fault: str, exit_code: int, said: str) -> None:
        desk.hub.fail("submit", fault, 1)
        done = desk.plan(*LAUNCH, *SCRIPT, "--detach")
        assert done.returncode == exit_code and said in done.stderr.splitlines()[-1] and not desk.hub.jobs, done.stderr
        assert [one["state"] for one in desk.runs()] == ["refused"]
        launched(desk)

    @pytest.mark.parametrize("words", [("--yes",), ("--detach",), ("--dry-run",), ("--again",), ("--no-learn",), ("--launch", "--offline"),
                                       ("--launch", "--emit", "hf")])  # fmt: skip
    def test_words_that_contradict(self, desk: Desk, words: tuple[str, ...]) -> None:
        refused(desk, desk.plan(*LAUNCH[:-1], *words), 2)
        assert not desk.hub.received


class TestAfterwards:
    def test_by_the_beginning_of_an_id_and_by_last(self, desk: Desk) -> None:
        first = launched(desk)
        second = launched(desk, "--again")
        shared = os.path.commonprefix([first, second])
        for name, meant in (("last", second), (first, first), (first[: len(shared) + 1], first)):
            assert json.loads(desk.plan("status", name, "--json").stdout)["runs"][0]["id"] == meant
        for name in (shared, "nobody", ""):
            done = desk.plan("status", name)
            assert done.returncode == 2 and done.stderr.count("\n") == 1, (name, done.stdout, done.stderr)

    def test_cancel(self, desk: Desk) -> None:
        run = launched(desk)
        done = desk.plan("cancel")
        assert done.returncode == 0 and "cancelled" in done.stderr and desk.hub.jobs["job1"].stage == "CANCELED"
        again = desk.plan("cancel", run)
        assert again.returncode == 0 and "ended before" in again.stderr
        assert desk.runs()[0]["state"] == "cancelled"

    def test_logs(self, desk: Desk) -> None:
        launched(desk)
        desk.hub.live = False
        desk.hub.advance("job1", "RUNNING", "one", "two\x1b[31m", hf_jobs.TOKEN[:6])
        done = desk.plan("logs")
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.splitlines()[:2] == ["one", "two\x1b[31m"]

    def test_fetch(self, desk: Desk) -> None:
        run = launched(desk)
        early = desk.plan("fetch")
        assert early.returncode == 7 and "plan logs" in early.stderr or early.returncode == 2, early.stderr
        repo = re.search(r"--policy.repo_id=([^\"]+)\"", json.dumps(desk.hub.jobs["job1"].body))[1]  # type: ignore[index]
        desk.hub.repos[f"models/{repo}"] = {"private": True, "tags": [], "files": {"config.json": b"{}", "model.safetensors": b"w" * 5000}}
        desk.hub.advance("job1", "COMPLETED", running_s=60)
        done = desk.plan("fetch", run, "--to", "model")
        assert (done.returncode, done.stdout) == (0, "model\n"), done.stderr
        assert (desk.folder / "model" / "model.safetensors").read_bytes() == b"w" * 5000

    def test_bill(self, desk: Desk) -> None:
        launched(desk)
        desk.hub.advance("job1", "COMPLETED", running_s=1800)
        first = desk.plan("bill")
        assert first.returncode == 0 and "≈ $0.40" in first.stdout and "does not say yet" in first.stderr, first.stdout + first.stderr
        desk.hub.bills.append({"jobId": "job1", "completedAt": "2026-01-01T01:00:00Z", "totalCostMicroUsd": 410_000})
        billed = json.loads(desk.plan("bill", "--json").stdout)["runs"][0]
        assert billed["usd_spent"] == 0.41 and "$0.41" in desk.plan("runs").stdout

    def test_what_waits_costs_nothing(self, desk: Desk) -> None:
        launched(desk)
        assert desk.runs()[0]["usd_running"] in (None, 0)

    def test_the_list_without_the_network(self, desk: Desk) -> None:
        run = launched(desk)
        desk.hub.advance("job1", "COMPLETED", running_s=60)
        desk.hub.received.clear()
        offline = desk.plan("runs", "--offline")
        assert offline.returncode == 0 and run in offline.stdout and "queued" in offline.stdout and not desk.hub.received
        desk.hub.fail("inspect", "503")
        down = desk.plan("runs")
        assert down.returncode == 0 and "queued" in down.stdout and "last seen" in down.stderr
        desk.hub.heal()
        assert "succeeded" in desk.plan("runs").stdout

    def test_a_job_that_the_place_forgot(self, desk: Desk) -> None:
        launched(desk)
        desk.hub.jobs.clear()
        assert desk.runs()[0]["state"] == "unknown"
        done = desk.plan("logs", "--follow")
        assert "Traceback" not in done.stderr and done.returncode in (0, 7), done.stderr


class TestProbe:
    WORDS = ("probe", *LAUNCH[:-1], "--num-gpus", "1")

    def test_a_flavor_is_measured_and_the_plan_made_again(self, desk: Desk) -> None:
        plan = desk.start(*self.WORDS, *SCRIPT)
        desk.hub.wait_asked("GET", LOGS)
        body = desk.hub.jobs["job1"].body
        assert "--steps=60" in body["command"] and "--policy.push_to_hub=false" in body["command"], body["command"]
        assert not any("repo_id" in word and "dataset" not in word for word in body["command"]), body["command"]
        assert body["labels"]["plan-run-id"].startswith("probe-act-pick-")
        desk.hub.advance("job1", "COMPLETED", *LOG.splitlines(), running_s=120)
        done = desk.end(plan)
        assert done.returncode == 0, done.stderr
        assert re.search(r"probe of 60 steps: on hf l4x1: expected \$0\.\d\d .* at most \$0\.\d\d, stops after", done.stderr)
        assert re.search(r"★ hf +l4x1 .* m?s ●", done.stdout), done.stdout
        commands = re.findall(r"  (plan [^…\n]+)$", done.stdout, re.M)
        assert len(commands) == 2 and all(desk.plan(*shlex.split(one)[1:]).returncode == 0 for one in commands), commands

    def test_it_is_priced_and_asked_for(self, desk: Desk) -> None:
        said = desk.terminal(*self.WORDS, types="n\n")
        assert re.search(r"Probe 1 flavor for at most \$0\.\d\d together\. Proceed\? \[y/N\]", said.text), said.text
        assert said.returncode == 8
        refused(desk, desk.plan(*self.WORDS, "--yes"), 2, "--max-cost")
        assert desk.runs() == []

    def test_all_flavors_are_looked_at_before_the_first_is_paid_for(self, desk: Desk) -> None:
        done = desk.plan("probe", *LAUNCH[:-1], *SCRIPT)  # l4x4, too, which this Hub has not
        refused(desk, done, 7, "l4x4")
        assert desk.runs() == []

    def test_dry_run(self, desk: Desk) -> None:
        done = desk.plan(*self.WORDS, "--dry-run")
        assert done.returncode == 0 and not desk.hub.jobs and "nothing was sent" in done.stderr
        assert "--steps=60" in json.loads(done.stdout)["body"]["command"]


class TestPushing:
    def test_a_local_dataset_is_uploaded_privately_and_trained_from_the_hub(self, desk: Desk) -> None:
        folder = desk.folder / "pull"
        (folder / "meta").mkdir(parents=True)
        (folder / "meta" / "info.json").write_text(json.dumps(info()), encoding="utf-8")
        words = [str(folder) if word == "me/pick" else word for word in LAUNCH]
        done = desk.plan(*words, *SCRIPT, "--detach", "--push-dataset")
        assert done.returncode == 0, done.stderr
        [sent] = desk.hub.jobs.values()
        assert "--dataset.repo_id=me/pull" in sent.body["command"]
        assert desk.hub.repos["datasets/me/pull"]["private"]

    def test_not_where_it_makes_no_sense(self, desk: Desk) -> None:
        for words, said in (((*LAUNCH, *SCRIPT, "--push-dataset"), "local folder"), ((*LAUNCH, "--push-dataset", "--dry-run"), "--dry-run"),
                            (("--policy", "act", "--episodes", "5", "--push-dataset"), "--launch")):  # fmt: skip
            done = desk.plan(*words)
            assert done.returncode == 2 and said in done.stderr and not desk.hub.jobs
