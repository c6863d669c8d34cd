"""`plan doctor`, with the real clients against loopback servers: what it finds, how it says to mend it, and that it changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planner import doctor
from planner.commands import main
from tests.servers import accounts, modal_account
from tests.servers.loopback import FAULTS as USUAL
from tests.servers.loopback import Reply

Room = Callable[..., "Answer"]
FAULTS = {**USUAL, "empty": Reply(200, {})}


class Answer:
    """Exit code, stdout and stderr of one command line."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """The document's checks as `place name` -> check."""
        document = json.loads(self.out)
        assert document["schema"] == "doctor/1" and document["exit_code"] == self.code
        found = {f"{one['place']} {one['name']}": one for one in document["checks"]}
        assert len(found) == len(document["checks"])
        for one in document["checks"]:
            assert one["status"] in doctor.STATUSES and one["text"]
            assert one["status"] != "fail" or one["fix"], "a failure says how to mend it"
        return found

    def one(self, name: str, status: str, *parts: str) -> None:
        """This check has this status, and its text and fix hold these parts."""
        check = self.checks[name]
        assert check["status"] == status, check
        for part in parts:
            assert part in f"{check['text']} {check['fix']}", check


@pytest.fixture
def hub() -> Iterator[accounts.Account]:
    with accounts.serve() as account:
        account.readable |= {"datasets/me/pick", "models/lerobot/pi0_base", "models/google/paligemma-3b-pt-224"}
        yield account


@pytest.fixture
def cloud() -> Iterator[modal_account.Account]:
    with modal_account.serve() as account:
        yield account


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Room:
    """room("--target", "hf") -> what `plan doctor --json …` answers, with nothing of the developer's own accounts."""
    from huggingface_hub import constants
    from modal import config
    from modal.client import _Client

    for name in [name for name in os.environ if name.startswith(("PLAN_", "HF_", "MODAL_", "HUGGING"))]:
        monkeypatch.delenv(name)
    for name, value in (("PLAN_HOME", tmp_path), ("HOME", tmp_path), ("HF_HOME", tmp_path), ("PATH", tmp_path / "bin")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(config, "_user_config", {})
    monkeypatch.setattr(config, "user_config_path", str(tmp_path / ".modal.toml"))
    monkeypatch.setattr(_Client, "_client_from_env", None)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, json: bool = True) -> Answer:
        code = main(("doctor", *arguments, *(("--json",) if json else ())))
        done = capsysbinary.readouterr()
        answer = Answer(code, done.out.decode(), done.err.decode())
        assert accounts.TOKEN not in answer.out + answer.err and modal_account.TOKEN[1] not in answer.out + answer.err
        return answer

    return run


@pytest.fixture
def hf(room: Room, hub: accounts.Account, monkeypatch: pytest.MonkeyPatch) -> Room:
    """The same, logged in to the loopback Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", accounts.TOKEN)
    return lambda *arguments, **more: room("--target", "hf", *arguments, **more)


@pytest.fixture
def modal(room: Room, cloud: modal_account.Account, monkeypatch: pytest.MonkeyPatch) -> Room:
    """The same, logged in to the loopback Modal."""
    monkeypatch.setenv("MODAL_SERVER_URL", cloud.url)
    monkeypatch.setenv("MODAL_TOKEN_ID", modal_account.TOKEN[0])
    monkeypatch.setenv("MODAL_TOKEN_SECRET", modal_account.TOKEN[1])
    return lambda *arguments, **more: room("--target", "modal", *arguments, **more)


class TestHuggingFace:
    def test_all_is_well(self, hf: Room, hub: accounts.Account) -> None:
        answer = hf("--policy", "pi0", "--dataset", "me/pick")
        assert answer.code == 0, answer.out
        answer.one("hf token", "ok", "from HF_TOKEN", "me, in lab")
        answer.one("hf permission", "ok", "write token")
        answer.one("hf payment", "ok", "does not tell the credit balance")
        answer.one("hf service", "ok", "1 kinds of hardware")
        answer.one("here clock", "ok")
        answer.one("hf dataset me/pick", "ok")
        answer.one("hf model lerobot/pi0_base", "ok")
        answer.one("hf model google/paligemma-3b-pt-224", "ok")
        assert hub.paths and {request.method for request in hub.requests} == {"GET"}, "a check changes nothing"
        assert not any(name.startswith("modal") for name in answer.checks)

    def test_no_token(self, hf: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_TOKEN")
        answer = hf()
        assert answer.code == 6
        answer.one("hf token", "fail", "no token", "hf auth login")

    def test_a_token_in_the_file_is_named_by_its_file(self, hf: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("HF_TOKEN")
        (tmp_path / "token").write_text(accounts.TOKEN + "\n")
        hf().one("hf token", "ok", str(tmp_path / "token"))

    @pytest.mark.parametrize("token", ["hf_" + "x" * 30, "hf_ü" + "x" * 30])
    def test_a_refused_token(self, hf: Room, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        monkeypatch.setenv("HF_TOKEN", token)
        answer = hf()
        assert answer.code == 6 and token not in answer.out
        answer.one("hf token", "fail", "from HF_TOKEN is refused", "hides the login", "unset HF_TOKEN")

    def test_a_read_token(self, hf: Room, hub: accounts.Account) -> None:
        hub.user = {**accounts.USER, "auth": {"accessToken": {"role": "read"}}}
        answer = hf()
        assert answer.code == 6
        answer.one("hf permission", "fail", "starts no jobs", "job.write")

    @pytest.mark.parametrize(("granted", "status", "code", "part"), [
        (["job.write", "repo.write"], "ok", 0, "job.write and repo.write for me"),
        (["job.write"], "warn", 0, "pushes no model"),
        (["repo.write"], "fail", 6, "lacks job.write for me"),
        ([], "fail", 6, "lacks job.write and repo.write for me"),
    ])  # fmt: skip
    def test_fine_grained_tokens(
        self, hf: Room, hub: accounts.Account, granted: list[str], status: str, code: int, part: str
    ) -> None:
        hub.user = accounts.fine_grained(me=granted, lab=["job.write", "repo.write"])
        answer = hf()
        assert answer.code == code
        answer.one("hf permission", status, part)

    def test_a_fine_grained_token_is_asked_for_the_namespace_that_pays(self, hf: Room, hub: accounts.Account) -> None:
        hub.user = accounts.fine_grained(me=["job.write", "repo.write"])
        assert hf("--namespace", "lab").code == 6
        hub.user = accounts.fine_grained(lab=["job.write", "repo.write"])
        answer = hf("--namespace", "lab")
        answer.one("hf permission", "ok", "for lab")
        answer.one("hf payment", "warn", "lab has no payment method", "billing")
        assert "/api/jobs/lab" in hub.paths

    def test_a_namespace_of_others(self, hf: Room) -> None:
        answer = hf("--namespace", "elsewhere")
        assert answer.code == 2
        answer.one("hf namespace", "fail", "elsewhere is neither you nor", "me, lab")

    def test_the_configured_namespace(self, hf: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLAN_NAMESPACE", "elsewhere")
        hf().one("hf namespace", "fail", "elsewhere")

    def test_a_kind_of_token_that_says_nothing(self, hf: Room, hub: accounts.Account) -> None:
        hub.user = {"name": "me"}
        answer = hf()
        assert answer.code == 0
        answer.one("hf permission", "unknown")
        answer.one("hf payment", "unknown", "does not tell")

    def test_a_licence_that_is_not_accepted(self, hf: Room, hub: accounts.Account) -> None:
        hub.gated |= {"models/google/paligemma-3b-pt-224", "datasets/me/pick"}
        answer = hf("--policy", "pi0", "--dataset", "me/pick")
        assert answer.code == 6
        answer.one("hf model google/paligemma-3b-pt-224", "fail", "gated", "https://huggingface.co/google/paligemma-3b-pt-224")
        answer.one("hf dataset me/pick", "fail", "gated", "https://huggingface.co/datasets/me/pick")

    def test_a_dataset_that_is_not_there(self, hf: Room) -> None:
        answer = hf("--dataset", "me/pikc")
        assert answer.code == 2
        answer.one("hf dataset me/pikc", "fail", "not there, or private", "check the name")

    @pytest.mark.parametrize("fault", ["500", "503", "429", "dropped", "html", "truncated", "empty"])
    @pytest.mark.parametrize(("path", "check"), [("/api/whoami-v2", "hf token"), ("/api/jobs/hardware", "hf service")])
    def test_a_service_that_is_down(self, hf: Room, hub: accounts.Account, path: str, check: str, fault: str) -> None:
        hub.faults[path] = FAULTS[fault]
        answer = hf()
        assert answer.code == 7, answer.out
        answer.one(check, "fail")

    def test_jobs_that_are_refused(self, hf: Room, hub: accounts.Account) -> None:
        hub.faults["/api/jobs/me"] = Reply(403, {"error": "Forbidden"})
        answer = hf()
        assert answer.code == 6
        answer.one("hf jobs", "fail", "the jobs of me are refused")

    def test_a_server_that_hangs_costs_the_deadline_and_its_own_check_alone(self, hf: Room, hub: accounts.Account) -> None:
        hub.faults["/api/whoami-v2"] = FAULTS["hangs"]
        answer = hf("--deadline", "1.5")
        assert answer.code == 7
        answer.one("hf account", "fail", "no answer within 1.5 s", "--deadline")
        answer.one("hf service", "ok")

    def test_a_missing_credential_outweighs_a_service_that_is_down(self, hf: Room, hub: accounts.Account) -> None:
        hub.user = {**accounts.USER, "auth": {"accessToken": {"role": "read"}}}
        hub.faults["/api/jobs/hardware"] = FAULTS["500"]
        assert hf().code == 6

    @pytest.mark.parametrize(("ahead_s", "words"), [(600, "10 min ahead of"), (-7200, "120 min behind")])
    def test_a_clock_that_is_off(self, hf: Room, monkeypatch: pytest.MonkeyPatch, ahead_s: int, words: str) -> None:
        off = time.time() + ahead_s
        monkeypatch.setattr("planner.commands.doctor.time", SimpleNamespace(time=lambda: off))
        answer = hf()
        assert answer.code == 2
        answer.one("here clock", "fail", words, "set it")

    def test_an_image_with_another_release(self, hf: Room) -> None:
        hf("--lerobot-version", "0.4.4").one("hf image", "warn", "holds LeRobot 0.6.1", "0.4.4")

    def test_the_clients_own_switch_is_named(self, hf: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        answer = hf()
        assert answer.code == 2
        answer.one("hf service", "fail", "HF_HUB_OFFLINE")

    def test_nothing_is_asked_offline(self, room: Room, hub: accounts.Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", accounts.TOKEN)
        answer = room("--target", "hf", "--offline", "--dataset", "me/pick")
        assert answer.code == 0 and hub.requests == []
        answer.one("hf token", "ok", "was not asked")
        answer.one("here network", "unknown", "nothing was asked")


class TestModal:
    def test_all_is_well(self, modal: Room, cloud: modal_account.Account) -> None:
        answer = modal()
        assert answer.code == 0, answer.out
        answer.one("modal token", "ok", "MODAL_TOKEN_ID")
        answer.one("modal workspace", "ok", "lab")
        answer.one("modal secret huggingface-secret", "ok", "HF_TOKEN")
        answer.one("modal volume lerobot-outputs", "ok", "is there")
        answer.one("modal volume lerobot-datasets", "ok", "first run makes it")
        answer.one("modal plan", "unknown", "GPU limit", "payment", "modal.com/settings")
        assert set(cloud.seen) <= {"WorkspaceNameLookup", "EnvironmentList", "SecretGetOrCreate", "VolumeGetOrCreate", "AuthTokenGet",
                                   "EnvironmentGetOrCreate"}

    def test_no_token_and_half_a_token(self, modal: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MODAL_TOKEN_SECRET")
        answer = modal()
        assert answer.code == 6
        answer.one("modal token", "fail", "half a token", "modal setup")
        monkeypatch.delenv("MODAL_TOKEN_ID")
        answer = modal()
        assert answer.code == 6
        answer.one("modal token", "fail", "no token in", ".modal.toml", "modal setup")

    def test_a_refused_token(self, modal: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODAL_TOKEN_ID", "ak-other")
        answer = modal()
        assert answer.code == 6
        answer.one("modal token", "fail", "refuses the token", "modal setup")

    def test_a_secret_that_is_missing_or_lacks_its_variable(self, modal: Room, cloud: modal_account.Account) -> None:
        cloud.secrets = {"huggingface-secret": {"OTHER"}}
        answer = modal()
        assert answer.code == 2
        answer.one("modal secret huggingface-secret", "fail", "without HF_TOKEN", "modal secret create huggingface-secret HF_TOKEN=")
        answer.one("modal secret wandb-secret", "warn", "is not there", "only runs that log")
        cloud.secrets = {}
        modal().one("modal secret huggingface-secret", "fail", "is not there")

    def test_configured_names(self, modal: Room, cloud: modal_account.Account, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLAN_SECRETS_HF", "lab-hf")
        monkeypatch.setenv("PLAN_VOLUMES_OUTPUTS", "lab-out")
        cloud.secrets["lab-hf"] = {"HF_TOKEN"}
        cloud.volumes = {"lab-out"}
        answer = modal()
        answer.one("modal secret lab-hf", "ok")
        answer.one("modal volume lab-out", "ok", "is there")

    def test_limits_that_the_api_tells(self, modal: Room, cloud: modal_account.Account) -> None:
        cloud.environment |= {"max_concurrent_gpus": 4, "effective_cycle_spend_limit": 100.0, "current_cycle_usage": 12.5}
        modal().one("modal environment", "ok", "$12.50 of $100.00", "at most 4 GPUs")
        answer = modal("--num-gpus", "8")
        assert answer.code == 2
        answer.one("modal environment", "fail", "fewer than the 8", "--num-gpus 4")
        cloud.environment |= {"spend_limit_reached": True}
        modal().one("modal environment", "fail", "spending limit is reached")

    def test_an_environment_that_is_not_there(self, modal: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODAL_ENVIRONMENT", "prod")
        modal().one("modal environment", "fail", "no environment prod; there are main")

    @pytest.mark.parametrize(("fault", "status", "code"), [
        ("PERMISSION_DENIED", "fail", 6), ("RESOURCE_EXHAUSTED", "fail", 2), ("UNIMPLEMENTED", "unknown", 0),
    ])  # fmt: skip
    def test_refusals(self, modal: Room, cloud: modal_account.Account, fault: str, status: str, code: int) -> None:
        cloud.faults["EnvironmentList"] = fault
        answer = modal()
        assert answer.code == code
        answer.one("modal environment", status)
        answer.one("modal workspace", "ok")

    def test_a_server_that_hangs(self, modal: Room, cloud: modal_account.Account) -> None:
        cloud.faults["WorkspaceNameLookup"] = "hang"
        answer = modal("--deadline", "2")
        assert answer.code == 7
        answer.one("modal account", "fail", "no answer within 2 s")
        answer.one("modal environment", "ok")


class TestHere:
    def program(self, folder: Path, answer: str) -> Path:
        """An environment whose Python answers as one with or without LeRobot would."""
        folder.mkdir(parents=True)
        python = folder / "python"
        python.write_text(f'#!/bin/sh\n[ "$1" = -I ] || exit 9\n{answer}\n')
        trainer = folder / "lerobot-train"
        trainer.write_text("#!/bin/sh\nexit 9\n")
        for file in (python, trainer):
            file.chmod(0o755)
        return trainer

    def test_the_trainer_on_the_path(self, room: Room, tmp_path: Path) -> None:
        self.program(tmp_path / "bin", "echo 0.6.1")
        room("--target", "local").one("here trainer", "ok", "LeRobot 0.6.1")
        room("--target", "local", "--lerobot-version", "0.4.4").one("here trainer", "warn", "LeRobot 0.6.1", "--lerobot-version 0.6.1")

    def test_the_configured_trainer(self, room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer = self.program(tmp_path / "env" / "bin", "echo 0.4.4")
        monkeypatch.setenv("PLAN_TRAINER", str(trainer))
        room("--target", "local", "--lerobot-version", "0.4.4").one("here trainer", "ok", "LeRobot 0.4.4", str(trainer))
        monkeypatch.setenv("PLAN_TRAINER", str(tmp_path / "gone"))
        answer = room("--target", "local")
        assert answer.code == 2
        answer.one("here trainer", "fail", "gone is not there (PLAN_TRAINER)")

    def test_a_link_to_the_trainer_leads_to_its_environment(self, room: Room, tmp_path: Path) -> None:
        trainer = self.program(tmp_path / "pipx" / "bin", "echo 0.6.1")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "lerobot-train").symlink_to(trainer)
        room("--target", "local").one("here trainer", "ok", "LeRobot 0.6.1")

    @pytest.mark.parametrize("answer", ["exit 1", "true"])
    def test_an_environment_without_lerobot(self, room: Room, tmp_path: Path, answer: str) -> None:
        self.program(tmp_path / "bin", answer)
        found = room("--target", "local")
        assert found.code == 2
        found.one("here trainer", "fail", "has no LeRobot", "pip install lerobot==0.6.1")

    def test_no_trainer_matters_only_where_it_is_to_train(self, room: Room) -> None:
        answer = room("--target", "local")
        assert answer.code == 2
        answer.one("here trainer", "fail", "no lerobot-train on the PATH")
        room("--offline").one("here trainer", "warn", "only a training here needs it")

    def test_the_gpus_that_are_here(self, room: Room) -> None:
        from planner.request import Device, Machine

        answer = room("--target", "local")
        assert answer.code == 2
        answer.one("here gpu", "fail", "no GPU was found", "nvidia-smi")
        room("--offline").one("here gpu", "warn", "only a training here")
        here = Machine((Device("NVIDIA GeForce RTX 4090", 24 * 10**9),))
        (one,) = doctor.gpus(here, [], needed=True)
        assert (one.status, one.text) == ("ok", "NVIDIA GeForce RTX 4090")
        (one,) = doctor.gpus(here, ["other processes hold it"], needed=True)
        assert one.status == "warn" and "other processes" in one.text

    def test_disk(self, tmp_path: Path) -> None:
        (one,) = doctor.disk(tmp_path / "not" / "there" / "yet", 0.0)
        assert one.status in ("ok", "warn") and str(tmp_path) in one.text
        (one,) = doctor.disk(tmp_path, 1e18)
        assert one.status == "fail" and "have to be downloaded" in one.text

    @pytest.mark.parametrize(("version", "spec", "within"), [
        ("2.4.0", ">=2.4,<3", True), ("2.4", ">=2.4.0", True), ("2.3.9", "<3,>=2.4", False), ("3.0.0", ">=2.4,<3", False),
        ("3.0.0rc1", "<3,>=2.4", False), ("2.10", ">=2.4", True), ("1.6.4.dev3", ">=1.6.4", True), ("1", "", True),
    ])  # fmt: skip
    def test_versions(self, version: str, spec: str, within: bool) -> None:
        assert doctor.within(version, spec) == within

    def test_clients_within_range(self, room: Room) -> None:
        answer = room("--offline")
        answer.one("here huggingface_hub", "ok", "2.")
        answer.one("here modal", "ok", "1.")

    def test_a_checker_that_breaks_hides_no_other(self) -> None:
        from planner.deadline import Deadline

        def broken() -> list[doctor.Check]:
            raise RuntimeError(accounts.TOKEN)

        good = doctor.Check("here", "b", "ok", "fine")
        first, second = doctor.examine([doctor.Ask("here", "a", broken), doctor.Ask("here", "b", lambda: [good])], Deadline(30))
        assert (first.status, second) == ("unknown", good) and accounts.TOKEN not in first.text


class TestTheCommand:
    @pytest.mark.parametrize(("arguments", "part"), [
        (("--target", "moon"), "hf, modal, local"), (("--policy", "pi00"), "did you mean pi0"), (("--lerobot-version", "0.5"), "0.6.1"),
        (("--dataset", "./nowhere"), "no such folder"), (("--deadline", "0"), "--deadline must be above 0"), (("--gpu", "l4"), "--gpu"),
    ])  # fmt: skip
    def test_mistakes_are_one_line(self, room: Room, arguments: tuple[str, ...], part: str) -> None:
        answer = room(*arguments, json=False)
        assert (answer.code, answer.out) == (2, "") and part in answer.err and len(answer.err.splitlines()) == 1

    def test_the_table_says_how_to_mend_each_thing(self, hf: Room, hub: accounts.Account, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.user = {**accounts.USER, "auth": {"accessToken": {"role": "read"}}}
        for columns in (60, 80, 120):
            monkeypatch.setenv("COLUMNS", str(columns))
            answer = hf(json=False)
            assert answer.code == 6 and answer.err == ""
            lines = answer.out.splitlines()
            assert max(map(len, lines)) <= columns and "\x1b" not in answer.out
            at = next(n for n, line in enumerate(lines) if "permission" in line)
            assert lines[at].startswith(" FAIL") and any(line.lstrip().startswith("→") for line in lines[at : at + 4])
        assert "1 FAIL" in lines[-1]

    def test_what_fails_alike_is_said_once(self, modal: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODAL_TOKEN_ID", "ak-other")
        assert modal(json=False).out.count("refuses the token") == 1

    def test_the_whole_program(self, hub: accounts.Account, cloud: modal_account.Account, tmp_path: Path) -> None:
        """With servers that hang, too, the process ends and says nothing else."""
        cloud.faults["WorkspaceNameLookup"], hub.faults["/api/jobs/hardware"] = "hang", FAULTS["hangs"]
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PLAN_HOME": str(tmp_path), "HF_ENDPOINT": hub.url,
            "HF_TOKEN": accounts.TOKEN, "MODAL_SERVER_URL": cloud.url, "MODAL_TOKEN_ID": modal_account.TOKEN[0],
            "MODAL_TOKEN_SECRET": modal_account.TOKEN[1], "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        program = str(Path(sys.executable).with_name("plan"))
        done = subprocess.run(
            [program, "doctor", "--json", "--deadline", "3"], env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=120
        )
        answer = Answer(done.returncode, done.stdout, done.stderr)
        assert (answer.code, answer.err) == (7, "")
        answer.one("hf service", "fail", "no answer within 3 s")
        answer.one("modal account", "fail", "no answer within 3 s")
        assert accounts.TOKEN not in done.stdout and modal_account.TOKEN[1] not in done.stdout
