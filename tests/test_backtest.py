"""The backtest: every row is scored or says why not, nothing sees its own source, and the errors stay what the docs say."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from planner import backtest as module
from planner import published
from planner.backtest import Backtest, backtest, summaries
from planner.catalogue import data_dir, load, read_runs
from planner.commands import main
from planner.errors import UsageError
from planner.records import Catalogue, Run
from planner.units import GIB


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(user=Path("/nonexistent"))


@pytest.fixture(scope="module")
def runs() -> tuple[Run, ...]:
    return read_runs(data_dir())


@pytest.fixture(scope="module")
def found(catalogue: Catalogue, runs: tuple[Run, ...]) -> Backtest:
    return backtest(catalogue, runs)


def test_every_row_is_scored_or_names_what_it_lacks(found: Backtest, runs: tuple[Run, ...]) -> None:
    unscorable = {run.id for run, why in found.unscorable if why}
    assert found.scored_runs | unscorable == {run.id for run in runs}
    assert not found.scored_runs & unscorable
    assert {run.id for run in runs if run.scored} - found.scored_runs == set(), "a scorable row was dropped"
    assert len(found.scores) >= 95


def test_errors_are_what_they_were(found: Backtest) -> None:
    """Leaving one source out; docs/accuracy.md has the figures. A change that makes them worse has to say why."""
    by = {(group.quantity, group.group): group for group in summaries(found.scores)}
    assert by["memory", "all"].median_error <= 0.03
    assert by["step", "all"].median_error <= 0.17
    assert by["step", "all"].p90_error <= 0.50
    assert by["wall-clock", "all"].median_error <= 0.20
    assert 0.75 <= by["step", "all"].inside / by["step", "all"].scores <= 0.95
    assert by["step", "measured"].median_spread <= 1.8 and by["step", "scaled"].median_spread <= 3.0


def test_no_false_verdict(found: Backtest) -> None:
    for verdict in found.verdicts:
        assert verdict.fitted or not verdict.says_fits, f"{verdict.run.id} ran out of memory"
        if verdict.fitted and verdict.margin is not None and verdict.margin > 0.1:
            assert verdict.says_fits, f"{verdict.run.id} finished with {verdict.margin:.0%} to spare"


def test_a_run_never_sees_its_own_source(catalogue: Catalogue, found: Backtest) -> None:
    """A run that is three times slower is predicted as before: its own source is left out."""
    one = next(score for score in found.scores if score.run.id == "r060" and score.quantity == "step")
    slower = tuple(
        run._replace(update_s=run.update_s * 3) if run.source == one.run.source and run.update_s else run for run in catalogue.runs)
    again = backtest(catalogue._replace(runs=slower), [run for run in slower if run.id == "r060"])
    assert next(score for score in again.scores if score.quantity == "step").predicted.p50 == one.predicted.p50


ROW = {
    "id": "x1", "system": "lerobot", "policy": "act", "policy_detail": "52M, fp32", "gpu": "rtx4080", "num_gpus": "1",
    "batch_size_per_gpu": "8", "image_desc": "2x640x480", "steps": "", "wall_clock_s": "", "update_s": "0.1", "data_s": "",
    "samples_per_s": "", "peak_vram_gb": "3.73", "oom": "no", "loader_notes": "", "date": "2026-01-01", "source_kind": "pr",
    "source": "https://example.org", "confidence": "high",
}


def table(*rows: dict[str, str]) -> io.StringIO:
    text = io.StringIO()
    writer = csv.DictWriter(text, published.COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    text.seek(0)
    return text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"dtype": "float32", "trained": "all", "cameras": 2, "width": 640, "height": 480}),
        ({}, {"update_s": 0.1, "vram_bytes": int(3.73 * GIB), "oom": False, "batch_size": 8}),
        ({"policy": "pi05", "policy_detail": "bf16, gradient_checkpointing=true, full fine-tune, compile_model=true"},
         {"dtype": "bfloat16", "gradient_checkpointing": True, "trained": "all", "compiled": True}),
        ({"policy": "pi05", "policy_detail": "LoRA r32, no gradient checkpointing, eager"},
         {"trained": "lora", "lora_rank": 32, "gradient_checkpointing": False, "compiled": False}),
        ({"policy": "smolvla", "policy_detail": "freeze_vision_encoder=false, train_expert_only=false"}, {"trained": "all"}),
        ({"policy": "xvla", "policy_detail": "VLM frozen (311M learnable), bf16"}, {"trained": "frozen_vlm", "dtype": "bfloat16"}),
        ({"policy": "lingbot-va"}, {"policy": "lingbot_va"}),
        ({"update_s": "", "samples_per_s": "40"}, {"update_s": 0.2, "whole_step": True}),
        ({"image_desc": "three cameras (head, 2 wrist)"}, {"cameras": 3, "width": None}),
        ({"image_desc": "1x96x96 (pusht)"}, {"cameras": 1, "width": 96}),
        ({"image_desc": "camera count not stated"}, {"cameras": None}),
        ({"policy_detail": "nvidia-smi reading"}, {"vram_bytes": None}),
        ({"oom": "yes"}, {"oom": True, "vram_bytes": None}),
        ({"policy_detail": "8-bit AdamW"}, {"optimizer": "adamw8bit"}),
    ],
)
def test_published_rows_are_read(catalogue: Catalogue, change: dict[str, str], expected: dict[str, object]) -> None:
    run, = published.read(table(ROW | change), catalogue)
    assert {name: getattr(run, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gpu": ""}, "gpu"), ({"gpu": "laptop-8gb"}, "gpu"), ({"policy": "dot"}, "policy"), ({"batch_size_per_gpu": ""}, "batch_size"),
        ({"system": "openpi"}, "system"), ({"update_s": "", "peak_vram_gb": "", "oom": ""}, "update_s"),
        ({"policy_detail": "8-bit AdamW", "update_s": ""}, "optimizer"),
    ],
)
def test_unscorable_rows_name_the_field(catalogue: Catalogue, change: dict[str, str], field: str) -> None:
    result = backtest(catalogue, published.read(table(ROW | change), catalogue))
    (_, why), = result.unscorable
    assert why.startswith(field) and not result.scored_runs


def test_unknown_cameras_are_seen_in_the_memory(catalogue: Catalogue) -> None:
    told, = published.read(table(ROW | {"image_desc": ""}), catalogue)
    training, sure = module.training_of(told, catalogue)
    assert sure and len(training.cameras) == 2, "3.73 GiB at batch 8 are two cameras of 640×480"
    untold, = published.read(table(ROW | {"image_desc": "", "peak_vram_gb": ""}), catalogue)
    assert module.training_of(untold, catalogue)[1] is False


def test_front_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(table(ROW, ROW | {"id": "x2", "gpu": "?"}).getvalue(), encoding="utf-8")
    assert main(["backtest", "--csv", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 2 and [row["id"] for row in document["unscorable"]] == ["x2"]
    assert {score["quantity"] for score in document["scores"]} == {"memory", "step"}
    assert main(["backtest", "--csv", str(path)]) == 0
    assert "1 of 2 rows scored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "lacks the columns"), (b"a,b\n1,2\n", "lacks the columns"), (b"\xff\xfe\x00", "UTF-8"), (None, "No such file")],
)
def test_wrong_tables_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, expected: str) -> None:
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    assert main(["backtest", "--csv", str(path)]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


@pytest.mark.parametrize("value", ["fast", "-1", "nan", "1e99"])
def test_wrong_numbers_name_row_and_column(catalogue: Catalogue, value: str) -> None:
    with pytest.raises(UsageError, match="x1: update_s"):
        published.read(table(ROW | {"update_s": value}), catalogue)
