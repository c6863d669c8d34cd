"""What the command line prints where, and with which exit code."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planner

Run = Callable[..., Any]
WORK = ("--policy", "smolvla", "--episodes", "50")
SCHEMA = json.loads((Path(planner.__file__).parent / "schema" / "plan-1.schema.json").read_text(encoding="utf-8"))


def plan_document(result: Any) -> dict[str, Any]:
    from jsonschema import Draft202012Validator

    document: dict[str, Any] = json.loads(result.stdout)
    Draft202012Validator(SCHEMA).validate(document)
    return document


class TestPlan:
    def test_the_first_command_of_the_readme(self, plan: Run) -> None:
        result = plan(*WORK)
        assert (result.returncode, result.stderr) == (0, "")
        assert "smolvla" in result.stdout and "--episode-seconds" in result.stdout and "\x1b" not in result.stdout

    def test_json_holds_the_schema(self, plan: Run) -> None:
        result = plan(*WORK, "--json")
        document = plan_document(result)
        assert (result.returncode, result.stderr, document["error"]) == (0, "", None)
        assert document["workload"]["policy"] == "smolvla" and document["workload"]["episodes"] == 50
        assert document["recommended"]["id"] in {row["id"] for row in document["estimates"]}

    def test_quiet_is_the_recommended_row(self, plan: Run) -> None:
        assert plan(*WORK, "-q").stdout == plan_document(plan(*WORK, "--json"))["recommended"]["id"] + "\n"

    def test_every_search_option_reaches_the_search(self, plan: Run) -> None:
        search = ("--target", "hf", "--gpu", "l4", "--gpu", "a100-80", "--num-gpus", "1")
        rows = plan_document(plan(*WORK, *search, "--json"))["estimates"]
        assert {row["target"] for row in rows} == {"hf"} and {row["gpu"] for row in rows} == {"l4", "a100-80"}
        assert {row["num_gpus"] for row in rows} == {1}

    def test_timeout_and_attempts_are_the_users(self, plan: Run) -> None:
        rows = plan_document(plan(*WORK, "--target", "hf", "--timeout", "20h", "--attempts", "2", "--json"))["estimates"]
        assert {(row["timeout_s"], row["attempts"]) for row in rows} == {(72_000, 2)}

    def test_optimize_changes_the_recommendation(self, plan: Run) -> None:
        document = plan_document(plan(*WORK, "--optimize", "time", "--json"))
        assert document["recommended"]["id"] == document["fastest"] != document["cheapest"]

    def test_nothing_fits_is_3_and_shown(self, plan: Run) -> None:
        big = ("--policy", "pi05", "--episodes", "50", "--gpu", "t4")
        result = plan(*big)
        assert result.returncode == 3 and result.stdout and result.stderr.startswith("error: ")
        document = plan_document(plan(*big, "--json"))
        assert document["recommended"] is None and document["error"]["text"] in result.stderr
        assert plan(*big, "-q").stdout == ""

    def test_over_budget_is_4(self, plan: Run) -> None:
        result = plan(*WORK, "--max-cost", "0.01")
        assert result.returncode == 4 and result.stderr.startswith("error: ")

    def test_a_pasted_command_is_planned(self, plan: Run) -> None:
        command = ("lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick", "--steps=50000", "--batch_size=16")
        work = plan_document(plan("--json", "--offline", "--", *command))["workload"]
        assert (work["policy"], work["steps"], work["batch_size"]) == ("act", 50_000, 16)

    def test_a_local_dataset_gives_frames_and_cameras(self, plan: Run, tmp_path: Path) -> None:
        write_dataset(tmp_path / "pick")
        work = plan_document(plan("--policy", "act", "--dataset", "pick", "--json"))["workload"]
        assert (work["frames"], work["episodes"], work["fps"]) == (15_000, 50, 15)
        assert work["cameras"] == [{"width": 320, "height": 240, "codec": "av1"}]

    def test_an_old_dataset_is_warned_of(self, plan: Run, tmp_path: Path) -> None:
        write_dataset(tmp_path / "pick", "v2.1")
        warnings = plan_document(plan("--policy", "act", "--dataset", "pick", "--json"))["warnings"]
        (warning,) = [one for one in warnings if one["code"] != "price-age"]  # which depends on the day
        assert "convert_dataset_v21_to_v30" in warning["text"]

    def test_the_commands_that_it_suggests_work(self, plan: Run) -> None:
        work = (*WORK, "--dataset", "me/pick", "--offline", "--target", "modal", "--target", "hf", "--gpu", "l4", "--all")
        lines = plan(*work, "--", "--job_name=a b").stdout.splitlines()
        suggested = [shlex.split(line[line.index("plan ") :])[1:] for line in lines if "plan " in line and "--policy" in line]
        emit, explain = suggested
        assert plan("--repo-id", "me/policy", *emit).returncode == 0  # which hf asks for
        assert plan(*explain).returncode == 0

    @pytest.mark.parametrize("columns", [80, 120])
    def test_no_line_is_wider_than_the_terminal(self, plan: Run, columns: int) -> None:
        table = plan(*WORK, COLUMNS=str(columns)).stdout
        rows = [line for line in table.splitlines() if "plan " not in line]  # a command to copy stays on one line
        assert max(map(len, rows)) <= columns

    def test_another_encoding_gets_other_symbols(self, plan: Run) -> None:
        assert plan(*WORK, PYTHONIOENCODING="ascii").stdout.isascii()

    def test_a_reader_that_leaves_early_is_no_error(self, plan: Run, tmp_path: Path) -> None:
        program = shlex.quote(str(Path(sys.executable).with_name("plan")))
        line = f"{program} {shlex.join(WORK)} --json --all | head -c 1; echo ${{PIPESTATUS[0]}}"
        result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path)
        assert (result.stdout, result.stderr) == ("{0\n", "")

    def test_imports_no_sdk_and_no_drawing(self, tmp_path: Path) -> None:
        code = (
            "import sys; from planner.commands import main; main([*sys.argv[1:]]);"
            "heavy = {'rich', 'pydantic', 'huggingface_hub', 'modal', 'yaml', 'click', 'requests', 'importlib.metadata'};"
            "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
        )
        clean = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        argv = [sys.executable, "-c", code, *WORK, "--json"]
        result = subprocess.run(argv, capture_output=True, text=True, env=clean, cwd=Path(planner.__file__).parents[1])
        assert (result.stderr, bool(result.stdout)) == ("[]\n", True)


class TestEmit:
    DATA = (*WORK, "--dataset", "me/pick", "--offline")

    def test_hf_is_one_line_for_a_shell(self, plan: Run) -> None:
        result = plan(*self.DATA, "--emit", "hf", "--repo-id", "me/policy", "--namespace", "lab")
        argv = shlex.split(result.stdout)
        assert result.returncode == 0 and result.stdout.count("\n") == 1
        assert argv[:3] == ["hf", "jobs", "run"] and argv[argv.index("--namespace") + 1] == "lab"
        assert "--policy.repo_id=me/policy" in argv and "--dataset.repo_id=me/pick" in argv

    def test_hf_asks_where_the_model_goes(self, plan: Run) -> None:
        result = plan(*self.DATA, "--emit", "hf")
        assert (result.returncode, result.stdout) == (2, "") and "--repo-id" in result.stderr

    def test_lerobot_runs_on_one_gpu(self, plan: Run) -> None:
        argv = shlex.split(plan(*self.DATA, "--emit", "lerobot").stdout)
        (flavor,) = [word.partition("=")[2] for word in argv if word.startswith("--job.target=")]
        rows = {row["flavor"]: row for row in plan_document(plan(*WORK, "--target", "hf", "--json"))["estimates"]}
        assert argv[0] == "lerobot-train" and rows[flavor]["num_gpus"] == 1

    def test_modal_is_a_script(self, plan: Run) -> None:
        result = plan(*self.DATA, "--emit", "modal")
        ast.parse(result.stdout)
        assert result.returncode == 0 and "modal" in result.stdout

    def test_local_is_the_trainer(self, plan: Run) -> None:
        result = plan(*self.DATA, "--emit", "local", "--gpu", "rtx4090", "--output", "out dir")
        argv = shlex.split(result.stdout)
        assert argv[0] == "lerobot-train" and "--output_dir=out dir" in argv

    @pytest.mark.parametrize("place", ["modal", "local"])
    def test_a_repository_beside_the_folder(self, plan: Run, place: str) -> None:
        gpu = "rtx4090" if place == "local" else "l4"
        text = plan(*self.DATA, "--emit", place, "--gpu", gpu, "--repo-id", "me/policy").stdout
        assert "--policy.repo_id=me/policy" in text and "output" in text

    def test_the_tail_arrives_byte_for_byte(self, plan: Run) -> None:
        hostile = "--job_name=it's $(x) `y` \"z\" \\ é\n--"
        result = plan(*self.DATA, "--emit", "local", "--gpu", "rtx4090", "--", hostile)
        assert hostile in shlex.split(result.stdout)

    def test_an_error_leaves_stdout_empty(self, plan: Run) -> None:
        result = plan("--policy", "pi05", "--frames", "9000", "--dataset", "me/pick", "--offline", "--gpu", "t4", "--emit", "modal")
        assert (result.returncode, result.stdout) == (3, "") and result.stderr.startswith("error: ")

    def test_the_same_training_keeps_its_name_and_another_gets_its_own(self, plan: Run) -> None:
        local = (*self.DATA, "--emit", "local", "--gpu", "rtx4090")
        assert plan(*local).stdout == plan(*local).stdout
        names = [
            next(word for word in shlex.split(plan(*local, *more).stdout) if word.startswith("--output_dir="))
            for more in ((), ("--epochs", "6"), ("--batch-size", "8"), ("--num-gpus", "2"), ("--", "--optimizer.lr=3e-4"))
        ]
        assert len(set(names)) == 5

    def test_the_name_knows_the_row_that_runs(self, plan: Run) -> None:
        fixed = (*self.DATA, "--emit", "modal", "--gpu", "h100", "--steps", "500", "--batch-size", "8")
        names = {
            number: next(line for line in plan(*fixed, "--num-gpus", number).stdout.splitlines() if "--job_name=" in line)
            for number in ("1", "2")
        }
        assert names["1"] != names["2"], "a run on two GPUs must not resume from one GPU's checkpoints"

    @pytest.mark.parametrize(("place", "parts"), [
        ("hf", ("the hf command", "hf auth login", "credit balance")),
        ("lerobot", ("pip install 'lerobot[training]==0.6.1'", "hf auth login", "credit balance")),
        ("modal", ("pip install modal", "modal setup", "modal secret create huggingface-secret HF_TOKEN=", "modal run --detach")),
        ("local", ("pip install 'lerobot[training]==0.6.1'",)),
    ])
    def test_what_to_know_stands_on_stderr(self, plan: Run, place: str, parts: tuple[str, ...]) -> None:
        work = ("--policy", "tdmpc", "--cameras", "96x96", "--episodes", "50", "--dataset", "me/pick", "--offline")
        more = {"hf": ("--repo-id", "me/x"), "local": ("--gpu", "rtx4090")}.get(place, ())
        result = plan(*work, "--emit", place, *more)
        lines = result.stderr.splitlines()
        needs = [line for line in lines if line.startswith("needs: ")]
        assert len(needs) == len(parts) and all(part in line for part, line in zip(parts, needs, strict=True))
        (note,) = [line for line in lines if line.startswith("note: ")]
        assert "next.reward" in note and "needs:" not in result.stdout


class TestStdout:
    @pytest.mark.parametrize("arguments", ["", "--policy act --episodes 5", "--policy act --episodes 5 --json", "gpus --json", "--polcy"])
    def test_closed_is_one_line(self, arguments: str, tmp_path: Path) -> None:
        program = shlex.quote(str(Path(sys.executable).with_name("plan")))
        result = subprocess.run(["bash", "-c", f"{program} {arguments} >&-"], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        (line,) = result.stderr.splitlines()
        assert result.returncode == 1 and line.startswith("error: stdout is closed")


class TestExplain:
    def test_the_recommended_row(self, plan: Run) -> None:
        recommended = plan(*WORK, "-q").stdout.strip()
        result = plan("explain", *WORK)
        assert (result.returncode, result.stderr) == (0, "") and recommended.replace(":", " ", 1) in result.stdout
        assert result.stdout == plan("explain", recommended, *WORK).stdout

    def test_json(self, plan: Run) -> None:
        assert isinstance(json.loads(plan("explain", *WORK, "--json").stdout), dict)

    def test_a_card_of_ones_own(self, plan: Run) -> None:
        result = plan("explain", "local:rtx4090", *WORK)
        assert result.returncode == 0 and "local rtx4090" in result.stdout

    def test_options_may_stand_before_the_row(self, plan: Run) -> None:
        row = "modal:H100"
        assert plan("explain", *WORK, row).stdout == plan("explain", row, *WORK).stdout

    def test_where_nothing_is_recommended(self, plan: Run) -> None:
        work = ("--policy", "pi05", "--episodes", "50", "--gpu", "t4")
        without = plan("explain", *work)
        assert without.returncode == 3 and "name a row" in without.stderr
        assert plan("explain", "hf:t4-small", *work).returncode == 0


@pytest.mark.parametrize("command", ["policies", "gpus"])
class TestBrowse:
    def test_a_table(self, plan: Run, command: str) -> None:
        result = plan(command, COLUMNS="100")
        assert (result.returncode, result.stderr) == (0, "") and "\x1b" not in result.stdout
        assert {"policies": "smolvla", "gpus": "h100"}[command] in result.stdout.lower()

    def test_json(self, plan: Run, command: str) -> None:
        assert {"policies": "smolvla", "gpus": "h100"}[command] in plan(command, "--json").stdout

    def test_takes_nothing_that_it_would_drop(self, plan: Run, command: str) -> None:
        assert plan(command, "act").returncode == plan(command, "--policy", "act").returncode == 2


class TestAround:
    def test_version(self, plan: Run) -> None:
        assert plan("--version").stdout == "plan 0.1.0\n"

    def test_nothing_asked_is_help(self, plan: Run) -> None:
        assert plan().stdout == plan("--help").stdout == plan("-h").stdout

    @pytest.mark.parametrize("command", [(), ("explain",), ("policies",), ("gpus",)])
    def test_help_names_every_option_once_and_in_plain_text(self, plan: Run, command: tuple[str, ...]) -> None:
        text = plan(*command, "--help").stdout
        words = [word.rstrip(",") for line in text.splitlines() if line.startswith("  -") for word in line.split()[:2]]
        flags = [word for word in words if word.startswith("-")]
        assert "--json" in flags and len(flags) == len(set(flags)) and "╭" not in text

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (("--policy", "smol"), "smolvla"),
            (("--gpu", "h10"), "h100"),
            (("--target", "m"), "modal"),
            (("--emit", "ler"), "lerobot"),
            (("expl",), "explain"),
            (("explain", "--policy", "smol"), "smolvla"),
            (("--epis",), "--episodes"),
        ],
    )
    def test_completion(self, plan: Run, words: tuple[str, ...], expected: str) -> None:
        line = shlex.join(["plan", *words])
        result = plan(_PLAN_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words)))
        assert expected in result.stdout.split()


def write_dataset(folder: Path, version: str = "v3.0") -> None:
    camera = {"dtype": "video", "shape": [240, 320, 3], "names": ["height", "width", "channels"], "info": {"video.codec": "av1"}}
    info = {
        "codebase_version": version, "total_episodes": 50, "total_frames": 15_000, "total_tasks": 1, "fps": 15,
        "features": {"observation.images.front": camera},
    }  # fmt: skip
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def test_gpus_can_be_narrowed_down_by_parts_of_their_names(plan: Run) -> None:
    shown = plan("gpus", "Jetson", "--json")
    gpus = {gpu["id"]: gpu for gpu in json.loads(shown.stdout)["gpus"]}
    assert "jetson-orin-nano-8" in gpus and all("Jetson" in gpu["name"] and gpu["kind"] == "shared" for gpu in gpus.values())
    both = plan("gpus", "rtx40", "a5000").stdout
    assert " rtx4070-super " in both and " a5000-laptop " in both and " rtx3090 " not in both
    missing = plan("gpus", "rtx6090")
    assert missing.returncode == 2 and "no GPU with rtx6090" in missing.stderr
