"""`--dataset owner/name` as a user meets it: the installed `plan`, a Hub on this machine, what is printed and with which exit code."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_commands import plan_document
from tests.conftest import NOWHERE
from tests.factories import said
from tests.hf_cli import parsed
from tests.servers import hf
from tests.servers.loopback import FAULTS, TOKEN
from tests.test_datasets import info, video

Run = Callable[..., Any]
WORK = ("--policy", "smolvla", "--dataset", "me/pick")
COMMIT = "1" * 40


@pytest.fixture
def hub() -> Iterator[hf.Hub]:
    with hf.serve() as server:
        server.dataset("me/pick", info(features={"observation.images.front": video(), "observation.images.wrist": video()}))
        yield server


def test_a_plan_of_what_the_hub_says(plan: Run, hub: hf.Hub) -> None:
    result = plan(*WORK, HF_ENDPOINT=hub.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("smolvla · me/pick at 1111111 · 50 episodes = 15,000 frames · 2 × 640×480 ·")
    work = plan_document(plan(*WORK, "--json", HF_ENDPOINT=hub.url))["workload"]
    assert (work["dataset"], work["dataset_revision"], work["frames"]) == ("me/pick", COMMIT, 15_000)


def test_the_second_plan_needs_neither_network_nor_client(plan: Run, hub: hf.Hub, tmp_path: Path) -> None:
    first = plan(*WORK, "--json", HF_ENDPOINT=hub.url)
    hub.requests.clear()
    assert plan(*WORK, "--json", HF_ENDPOINT=hub.url).stdout == first.stdout and not hub.requests
    code = "import sys; from planner.commands import main; main(sys.argv[1:]);" \
        "print(sorted({'huggingface_hub', 'httpx2', 'asyncio', 'pyarrow', 'ssl', 'rich'} & set(sys.modules)), file=sys.stderr)"
    clean = {"HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    done = subprocess.run([sys.executable, "-c", code, *WORK, "--json"], capture_output=True, text=True, env=clean)
    assert (done.stdout, done.stderr) == (first.stdout, "[]\n")
    assert not hub.requests


def test_where_the_facts_are_kept(plan: Run, hub: hf.Hub, tmp_path: Path) -> None:
    plan(*WORK, HF_ENDPOINT=hub.url, PLAN_HOME=str(tmp_path / "home"))
    (file,) = (tmp_path / "home" / "cache" / "datasets").iterdir()
    assert file.name.endswith("--me--pick.json") and COMMIT in json.loads(file.read_text())["commits"]


@pytest.mark.parametrize(
    ("fault", "exit_code", "code"),
    [("403", 6, "token"), ("gated", 6, "dataset-gated"), ("missing", 2, "dataset-missing"), ("500", 7, "hub"), ("refused", 7, "hub"),
     ("html", 7, "hub"), ("truncated", 7, "hub"), ("offline", 2, "offline")],
)
def test_a_failure_is_one_line_and_its_exit_code(plan: Run, hub: hf.Hub, fault: str, exit_code: int, code: str) -> None:
    options, endpoint = ("--offline",) if fault == "offline" else (), NOWHERE if fault == "refused" else hub.url
    if fault in FAULTS:
        hub.faults["/resolve/"] = FAULTS[fault]
    elif fault == "403":
        hub.faults["/resolve/"] = FAULTS["500"]._replace(status=403)
    elif fault == "missing":
        hub.repositories.clear()
    hub.dataset("me/gated", info()).gated = True
    name = "me/gated" if fault == "gated" else "me/pick"
    arguments = ("--policy", "act", "--dataset", name, *options)
    result = plan(*arguments, HF_ENDPOINT=endpoint, HF_TOKEN=TOKEN)
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and name in result.stderr and "--frames" in result.stderr
    document = plan_document(plan(*arguments, "--json", HF_ENDPOINT=endpoint, HF_TOKEN=TOKEN))
    assert document["error"]["code"] == code and TOKEN not in json.dumps(document)
    own = plan(*arguments, "--frames", "9000", HF_ENDPOINT=endpoint, HF_TOKEN=TOKEN)
    assert own.returncode == 0 and " ! " in own.stdout and name in own.stdout


class TestEmit:
    def test_the_command_pins_the_commit_and_names_the_cameras(self, plan: Run, hub: hf.Hub) -> None:
        result = plan(*WORK, "--emit", "hf", "--repo-id", "me/out", HF_ENDPOINT=hub.url)
        argv = parsed(result.stdout)["command"]
        assert said(argv, "dataset.repo_id") == "me/pick" and f"--dataset.revision={COMMIT}" in argv
        assert not any(word.startswith(("--dataset.root", "--dataset.episodes")) for word in argv)
        (renamed,) = (json.loads(word.partition("=")[2]) for word in argv if word.startswith("--rename_map="))
        key = "observation.images.{}".format
        assert renamed == {key("front"): key("camera1"), key("wrist"): key("camera2")}
        assert "front as camera1" in result.stderr

    def test_modal_reads_it_from_the_hub(self, plan: Run, hub: hf.Hub) -> None:
        result = plan(*WORK, "--emit", "modal", HF_ENDPOINT=hub.url)
        assert COMMIT in result.stdout and "dataset.root" not in result.stdout and "modal volume put" not in result.stderr

    def test_a_pasted_command_gets_the_commit_too(self, plan: Run, hub: hf.Hub) -> None:
        command = ("lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick", "--steps=500")
        argv = shlex.split(plan("--gpu", "rtx4090", "--emit", "local", "--", *command, HF_ENDPOINT=hub.url).stdout)
        assert argv[: len(command)] == list(command) and f"--dataset.revision={COMMIT}" in argv

    def test_the_first_episodes(self, plan: Run, hub: hf.Hub) -> None:
        argv = parsed(plan(*WORK, "--episodes", "3", "--emit", "hf", "--repo-id", "me/out", HF_ENDPOINT=hub.url).stdout)["command"]
        assert said(argv, "dataset.episodes") == [0, 1, 2]

    def test_the_commit_is_that_of_now(self, plan: Run, hub: hf.Hub) -> None:
        plan(*WORK, HF_ENDPOINT=hub.url)
        repository = hub.repositories["me/pick"]
        repository.commit("main", "v3.0", files=repository.commits[COMMIT])
        assert "1111111" in plan(*WORK, HF_ENDPOINT=hub.url).stdout
        assert "2" * 40 in plan(*WORK, "--emit", "modal", HF_ENDPOINT=hub.url).stdout

    def test_another_commit_is_another_run_and_the_same_one_is_not(self, plan: Run, hub: hf.Hub) -> None:
        emit = (*WORK, "--emit", "modal")
        first, again = plan(*emit, HF_ENDPOINT=hub.url).stdout, plan(*emit, HF_ENDPOINT=hub.url).stdout
        repository = hub.repositories["me/pick"]
        repository.commit("main", "v3.0", files=repository.commits[COMMIT])
        assert first == again

        def name(script: str) -> str:
            return script.split("--job_name=")[1].split("'")[0].split('"')[0]

        assert name(first) != name(plan(*emit, HF_ENDPOINT=hub.url).stdout)

    def test_without_the_hub_it_is_emitted_from_the_users_numbers_and_that_is_said(self, plan: Run) -> None:
        result = plan(*WORK, "--episodes", "50", "--emit", "modal")
        assert result.returncode == 0 and "dataset.revision" not in result.stdout and "dataset.episodes" not in result.stdout
        assert "warning: me/pick is not read" in result.stderr and "every episode of the dataset" in result.stderr
        result = plan(*WORK[:2], "--dataset", "me/pick@v2", "--episodes", "50", "--emit", "modal")
        assert "--dataset.revision=v2" in result.stdout, "what was said is kept"
