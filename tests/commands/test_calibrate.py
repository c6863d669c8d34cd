"""`plan calibrate`: logs in, a comparison and evidence out, and nothing changed where anything is wrong."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner import entries, ownruns
from planner.errors import UsageError

Run = Callable[..., Any]
LOGS = Path(__file__).parent.parent / "logs"
REAL = str(LOGS / "lerobot-0.4.4.log")
MADE = ("--gpu", "rtx3090", "--cameras", "2x640x480")
SAME = ("--policy", "smolvla", "--gpu", "rtx3090", "--target", "local", "--episodes", "50", "--batch-size", "16", "--lerobot-version",
        "main", "--json")  # fmt: skip


@pytest.fixture
def one_gpu(tmp_path: Path) -> str:
    """smolvla on one card whose name the log does not say."""
    path = tmp_path / "train.log"
    text = (LOGS / "lerobot-main.log").read_text(encoding="utf-8")
    path.write_text(text.replace("16 x 4 dp", "16 x 1 dp").replace("= 64 (", "= 16 ("), encoding="utf-8")
    return str(path)


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    return tmp_path / "config" / "planner" / "catalogue" / "evidence.yaml"


def read(path: Path) -> dict[str, Any]:
    runs: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["runs"]
    return runs


def grades(result: Any) -> set[tuple[str, str]]:
    return {(row["time_grade"], row["vram_grade"]) for row in json.loads(result.stdout)["estimates"]}


class TestKept:
    def test_the_next_plan_is_measured(self, plan: Run, one_gpu: str, evidence: Path) -> None:
        before = plan(*SAME)
        assert before.returncode == 0 and ("measured", "measured") not in grades(before)
        done = plan("calibrate", one_gpu, *MADE)
        assert (done.returncode, done.stderr) == (0, "")
        after = plan(*SAME)
        assert grades(after) == {("measured", "measured")}
        [row] = json.loads(after.stdout)["estimates"]
        assert abs(row["step_s"]["p50"] - 0.415) < abs(json.loads(before.stdout)["estimates"][0]["step_s"]["p50"] - 0.415)
        [(name, run)] = read(evidence).items()
        assert name in plan("explain", "local:rtx3090", *SAME[:2], *SAME[6:-1]).stdout
        assert run["update"] == "0.401 s" and run["vram"] == "4.31 GiB" and run["source"] == "train.log"

    def test_the_row_is_evidence_as_the_catalogue_reads_it(self, plan: Run, one_gpu: str, evidence: Path) -> None:
        plan("calibrate", one_gpu, *MADE)
        [(name, row)] = read(evidence).items()
        run = entries.run("evidence.yaml", name, row)
        assert (run.policy, run.trained, run.dtype, run.autocast, run.lerobot) == ("smolvla", "expert", "bfloat16", True, "main")
        assert (run.gpu, run.num_gpus, run.batch_size, run.cameras, run.width, run.steps) == ("rtx3090", 1, 16, 2, 640, 2000)
        assert (run.update_s, run.data_s, run.whole_step, run.scored, run.confidence) == (0.401, 0.014, False, True, "high")
        assert name.startswith("own-2026-10-02-") and len(name) == len("own-2026-10-02-") + 6 and run.as_of == "2026-10-02"

    def test_the_same_log_again_changes_nothing(self, plan: Run, one_gpu: str, evidence: Path, tmp_path: Path) -> None:
        plan("calibrate", one_gpu, *MADE)
        before = evidence.read_bytes()
        packed = tmp_path / "copy.gz"
        packed.write_bytes(gzip.compress(Path(one_gpu).read_bytes()))
        done = plan("calibrate", str(packed), one_gpu, *MADE)
        assert done.returncode == 0 and "was kept before" in done.stdout
        assert evidence.read_bytes() == before
        predicted = [json.loads(plan("calibrate", one_gpu, *MADE, "--json", *extra, XDG_CONFIG_HOME=home).stdout)["logs"][0]["step_s"]
                     for home, extra in ((str(tmp_path / "config"), ()), (str(tmp_path / "other"), ("--dry-run",)))]
        assert predicted[0] == predicted[1]  # what is known of this run does not help to predict it

    def test_several_logs_are_a_row_each_beside_what_was_there(self, plan: Run, one_gpu: str, evidence: Path) -> None:
        evidence.parent.mkdir(parents=True)
        mine = ("# mine\nruns:\n    own-old: {policy: act, scored: false, kind: log, confidence: low, source: memory, "
                "as_of: undated}  # long ago\n")
        evidence.write_text(mine, encoding="utf-8")
        done = plan("calibrate", one_gpu, str(LOGS / "skyrl.log"), *MADE, "--policy", "smolvla")
        assert done.returncode == 0, done.stderr
        assert evidence.read_text(encoding="utf-8").startswith(mine)
        assert [name[:14] for name in read(evidence)] == ["own-old", "own-2026-10-02", "own-2026-09-03"]
        assert {path.name for path in evidence.parent.iterdir()} == {"evidence.yaml", ".evidence.yaml.lock"}
        assert plan(*SAME).returncode == 0

    def test_dry_run_keeps_nothing(self, plan: Run, one_gpu: str, evidence: Path) -> None:
        done = plan("calibrate", one_gpu, *MADE, "--dry-run")
        assert done.returncode == 0 and "not kept, as asked" in done.stdout and not evidence.parent.exists()

    def test_a_policy_of_other_sizes_is_kept_but_not_counted(self, plan: Run, evidence: Path) -> None:
        done = plan("calibrate", str(LOGS / "lerobot-0.6.1.log"), "--cameras", "64x64")
        assert "11 M parameters, where act as it is planned has 52 M" in " ".join(done.stdout.split())
        [row] = read(evidence).values()
        assert (row["scored"], row["gpu"]) == (False, "cpu")

    def test_other_pictures_than_planned_count_but_are_no_measurement(self, plan: Run, evidence: Path, tmp_path: Path) -> None:
        text = Path(REAL).read_text(encoding="utf-8").replace("'n_obs_steps': 1", "'n_obs_steps': 2")
        (tmp_path / "two.log").write_text(text, encoding="utf-8")
        done = plan("calibrate", "two.log", "--cameras", "64x64")
        assert "n_obs_steps is 2, which is planned otherwise" in " ".join(done.stdout.split())
        plan("calibrate", REAL, "--cameras", "64x64")
        assert [(row["scored"], row["confidence"]) for row in read(evidence).values()] == [(True, "medium"), (True, "high")]


class TestShown:
    def test_prediction_beside_measurement(self, plan: Run, one_gpu: str) -> None:
        done = plan("calibrate", one_gpu, *MADE, "--json")
        document = json.loads(done.stdout)
        [log] = document["logs"]
        assert (document["schema"], log["added"], log["lerobot"], log["policy"]) == ("calibration/1", True, "main", "smolvla")
        assert log["windows"] == {"used": 9, "dropped": 1} and log["samples_per_s"] == pytest.approx(16 / 0.415, rel=1e-4)
        assert log["loader_share"] == pytest.approx(0.014 / 0.415, rel=1e-4)
        for compared, measured in ((log["step_s"], 0.415), (log["vram_gb"], 4.31 * 2**30 / 1e9)):
            predicted = compared["predicted"]
            assert compared["measured"] == pytest.approx(measured, rel=1e-4)
            assert compared["error"] == pytest.approx(predicted["p50"] / compared["measured"] - 1, abs=1e-4)
            assert compared["inside"] is (predicted["p10"] <= compared["measured"] <= predicted["p90"])

    @pytest.mark.parametrize("columns", ["60", "120"])
    def test_lines_fit_and_say_what_was_left_out(self, plan: Run, one_gpu: str, columns: str) -> None:
        lines = plan("calibrate", one_gpu, *MADE, "--dry-run", COLUMNS=columns).stdout.splitlines()
        assert max(map(len, lines)) <= int(columns) and any(line.split()[:2] == ["step", "0.42"] for line in lines)
        done = plan("calibrate", REAL, "--cameras", "64x64", COLUMNS=columns, cwd=LOGS)
        assert "median of 11 of 12 step times in the log, the first 1 left out" in " ".join(done.stdout.split())
        assert "act · fp32 · 1 × CPU · LeRobot 0.4.4 · batch 2 · 1 camera" in " ".join(done.stdout.split())

    def test_stdin(self, one_gpu: str, tmp_path: Path) -> None:
        program = Path(sys.executable).with_name("plan")
        done = subprocess.run([program, "calibrate", "-", *MADE, "--json"], input=gzip.compress(Path(one_gpu).read_bytes())[:-20],
                              capture_output=True, env={"XDG_CONFIG_HOME": str(tmp_path)}, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["logs"][0]["file"] == "stdin"

    def test_other_trainers_are_measured_without_a_prediction(self, plan: Run, evidence: Path) -> None:
        done = plan("calibrate", str(LOGS / "trl-grpo.log"), "--policy", "Qwen/Qwen2.5-1.5B", "--json")
        [log] = json.loads(done.stdout)["logs"]
        assert (log["system"], log["gpu"], log["num_gpus"], log["step_s"]["predicted"]) == ("trl", "rtx4090", 2, None)
        [row] = read(evidence).values()
        assert (row["system"], row["scored"], row["as_of"]) == ("trl", False, "undated")

    def test_cameras_and_adapter_as_the_configuration_has_them(self, plan: Run, one_gpu: str, tmp_path: Path) -> None:
        text = Path(one_gpu).read_text(encoding="utf-8")
        text = text.replace("lerobot/smolvla_base", "me/first").replace("'peft': None", "'peft': {'method_type': 'LORA', 'r': 32}")
        (tmp_path / "second.log").write_text(text.replace("num_total_params=450046176", "num_total_params=451500000"), encoding="utf-8")
        [log] = json.loads(plan("calibrate", "second.log", "--gpu", "l4", "--json", "--dry-run").stdout)["logs"]
        assert log["cameras"] == [[256, 256]] * 3 and log["scored"]
        assert (log["variant"]["trained"], log["variant"]["lora_rank"], log["variant"]["autocast"]) == ("lora", 32, True)

    def test_the_cameras_of_a_dataset_that_is_here(self, plan: Run, one_gpu: str, tmp_path: Path) -> None:
        camera = {"dtype": "video", "shape": [360, 480, 3], "names": ["height", "width", "channels"]}
        info = {"codebase_version": "v3.0", "total_frames": 45000, "total_episodes": 50, "fps": 30,
                "features": {"observation.images.top": camera}}
        meta = tmp_path / "cache" / "me" / "pick" / "meta"
        meta.mkdir(parents=True)
        (meta / "info.json").write_text(json.dumps(info), encoding="utf-8")
        arguments = ("calibrate", one_gpu, "--gpu", "rtx3090", "--json", "--dry-run")
        found = plan(*arguments, HF_LEROBOT_HOME=str(tmp_path / "cache"))
        assert json.loads(found.stdout)["logs"][0]["cameras"] == [[480, 360]]
        (meta / "info.json").write_text(json.dumps(info | {"total_frames": 46000}), encoding="utf-8")  # it was another dataset then
        assert "add --cameras" in plan(*arguments, HF_LEROBOT_HOME=str(tmp_path / "cache")).stdout


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "which log?"),
            (("missing.log",), "missing.log: cannot be read: no such file"),
            (("a\nb",), "cannot be read"),
            ((".",), "is a folder"),
            (("empty",), "empty: is empty"),
            (("foreign",), "foreign: holds no step times"),
            (("short",), "short: holds 1 step time, and a steady state needs at least 3"),
            (("broken.gz",), "broken.gz: is a damaged gzip file"),
            (("train.log",), "train.log: does not say on which GPU it ran: add --gpu"),
            (("train.log", "--gpu", "l44"), "did you mean l4"),
            (("train.log", "--gpu", "l4"), "does not say what the cameras were: add --cameras"),
            (("train.log", *MADE, "--policy", "act"), "the log is of smolvla, and --policy says act"),
            (("train.log", *MADE, "--batch-size", "8"), "batch size in the log is 16, and --batch-size says 8"),
            (("train.log", *MADE, "--cameras", "2x"), "expected COUNTxWIDTHxHEIGHT"),
            (("train.log", *MADE, "--pattern", "("), "--pattern is no regular expression"),
            (("train.log", *MADE, "--pattern", "(?P<update_s>nowhere)"), "train.log: has no line that --pattern matches"),
            (("train.log", "foreign", *MADE), "foreign: holds no step times"),
            (("trl.log", "--gpu", "l4"), "trl.log: does not say what was trained: add --policy"),
            (("train.log", *MADE, "--", "--steps=5"), "plans no training"),
        ],
    )
    def test_one_line_exit_2_and_nothing_changed(
        self, plan: Run, one_gpu: str, evidence: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
    ) -> None:
        (tmp_path / "empty").touch()
        (tmp_path / "foreign").write_bytes(bytes(range(256)) * 50)
        (tmp_path / "short").write_text("step:1 smpl:8 ep:0 epch:0.01 loss:1.0 updt_s:0.1 data_s:0.1\n", encoding="utf-8")
        (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b" + b"nonsense" * 20)
        (tmp_path / "trl.log").write_bytes((LOGS / "trl-grpo.log").read_bytes())
        done = plan("calibrate", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr
        assert not evidence.exists()

    def test_json_says_it_as_json(self, plan: Run) -> None:
        done = plan("calibrate", "missing.log", "--json")
        assert done.returncode == 2 and json.loads(done.stdout)["error"]["code"] == "log"

    @pytest.mark.parametrize("content", ["runs: [", "runs: 5\n", "runs:\n  r001: {polcy: act}\n", "\xff"])
    def test_a_broken_evidence_file_is_left_as_it_is(self, plan: Run, one_gpu: str, evidence: Path, content: str) -> None:
        evidence.parent.mkdir(parents=True)
        evidence.write_bytes(content.encode("latin-1"))
        done = plan("calibrate", one_gpu, *MADE)
        assert (done.returncode, done.stdout) == (2, "") and "evidence.yaml" in done.stderr
        assert evidence.read_bytes() == content.encode("latin-1")


class TestFile:
    ROW = {"policy": "act", "variant": {"dtype": "float32"}, "scored": False, "kind": "log", "confidence": "high", "source": "a: b #c",
           "as_of": "2026-10-02"}

    @pytest.mark.parametrize(
        "before", [None, "runs:\n", "runs:\n\n  # none yet\n", "runs:\n a: {x: 1}\n", "runs:\r\n  a: {x: 1}", "runs: {}\n"]
    )
    def test_added_or_refused_never_broken(self, tmp_path: Path, before: str | None) -> None:
        path = tmp_path / ownruns.FILE
        if before is not None:
            path.write_bytes(before.encode())
        if before == "runs: {}\n":
            with pytest.raises(UsageError, match="cannot be added"):
                ownruns.add({"own-1": self.ROW}, tmp_path)
            assert path.read_bytes() == before.encode()
        else:
            assert ownruns.add({"own-1": self.ROW}, tmp_path) == ("own-1",)
            assert path.read_bytes().startswith((before or "").encode()) and read(path)["own-1"] == self.ROW
            assert ownruns.add({"own-1": self.ROW}, tmp_path) == ()
        assert {one.name for one in tmp_path.iterdir()} == {ownruns.FILE, f".{ownruns.FILE}.lock"}

    def test_many_that_add_at_once_lose_nothing(self, tmp_path: Path) -> None:
        code = "import sys, json, pathlib; from planner import ownruns; row = json.loads(sys.argv[2]); sys.stdin.read()\n" \
            "for number in range(5): ownruns.add({f'own-{sys.argv[3]}-{number}': row}, pathlib.Path(sys.argv[1]))"
        started = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path), json.dumps(self.ROW), str(one)], stdin=subprocess.PIPE)
            for one in range(8)
        ]
        for process in started:  # all are loaded and wait for the end of their stdin
            assert process.stdin
            process.stdin.close()
        assert [process.wait() for process in started] == [0] * 8
        assert set(read(tmp_path / ownruns.FILE)) == {f"own-{one}-{number}" for one in range(8) for number in range(5)}

    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        real = tmp_path / "dotfiles" / "evidence.yaml"
        real.parent.mkdir()
        real.write_text("runs:\n", encoding="utf-8")
        (tmp_path / "catalogue").mkdir()
        (tmp_path / "catalogue" / ownruns.FILE).symlink_to(real)
        ownruns.add({"own-1": self.ROW}, tmp_path / "catalogue")
        assert (tmp_path / "catalogue" / ownruns.FILE).is_symlink() and list(read(real)) == ["own-1"]
