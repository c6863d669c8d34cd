"""The catalogue: what ships is whole and sourced; what is wrong in a file is one line that says where."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from planner import compiled
from planner.build import build
from planner.catalogue import data_dir, load
from planner.errors import UsageError
from planner.records import Catalogue, Figure

NONE = Path("/nonexistent")
OWN_PRICE = "offers:\n  l4x1: {{price: {{value: 0.5 USD/h, source: hf_jobs_pricing, as_of: {}}}}}\n"
DATED = re.compile(r'(?<=source: hf_jobs_pricing), as_of: "[^"]*"')


@pytest.fixture(scope="module")
def bundled() -> Catalogue:
    return load(user=NONE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the bundled data to be spoiled."""
    folder = tmp_path / "data"
    shutil.copytree(data_dir(), folder)
    return folder


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before, "the edit changed nothing"
    path.write_text(after, encoding="utf-8")


# ------------------------------------------------------------------------------------------ what ships


def test_compiled_form_is_current() -> None:
    assert (data_dir() / compiled.FILE).read_text(encoding="utf-8") == compiled.text(build(data_dir(), None), data_dir())


def test_compiled_form_equals_the_sources(bundled: Catalogue, data: Path) -> None:
    (data / compiled.FILE).unlink()
    fresh = load(data, user=NONE)
    for field in Catalogue._fields:
        assert getattr(fresh, field) == getattr(bundled, field), field


def test_edited_source_is_read_at_once(data: Path) -> None:
    edit(data / "offers" / "hf.yaml", lambda text: text.replace("0.80 USD/h", "0.81 USD/h", 1))
    assert {str(offer.usd_per_hour) for offer in load(data, user=NONE).offers if offer.flavor == "l4x1"} == {"0.81"}


def test_every_policy_type_is_there(bundled: Catalogue) -> None:
    expected = (
        {"act", "diffusion", "vqbet", "tdmpc", "multi_task_dit", "smolvla", "pi0", "pi05", "pi0_fast", "xvla", "groot", "wall_x"}
        | {"eo1", "evo1", "fastwam", "molmoact2", "vla_jepa", "lingbot_va", "gaussian_actor", "sac"}
        | {"reward_classifier", "sarm"}
    )
    assert set(bundled.policies) == expected
    assert len(bundled.groups) == 6
    assert {policy.group for policy in bundled.policies.values()} == set(bundled.groups)


def test_every_provider_offer_is_there(bundled: Catalogue) -> None:
    flavors = {target: {o.flavor for o in bundled.offers if o.target == target} for target in ("hf", "modal")}
    assert len(flavors["hf"]) == 26
    assert flavors["modal"] >= {"T4", "L4", "A10", "L40S", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H200", "B200", "B300"}
    assert {"A100", "H100!", "B200+"} <= set(bundled.aliases)
    counts = {o.num_gpus for o in bundled.offers if o.flavor == "A10"}
    assert max(counts) == 4, "Modal sells at most four A10 in a container"
    assert {o.gpu for o in bundled.offers if o.flavor == "A10"} == {"a10g"}, "Modal's A10 is an A10G"


def test_known_traps_of_the_hardware(bundled: Catalogue) -> None:
    assert bundled.gpus["t4"].bf16 is None and bundled.gpus["t4"].tf32 is None
    assert bundled.gpus["a10g"].bf16 is not None and bundled.gpus["a10g"].bf16.value == 70e12
    assert bundled.gpus["l4"].usable_bytes.value < 24e9


def test_every_price_has_source_and_date(bundled: Catalogue) -> None:
    for offer in bundled.offers:
        if offer.usd_per_hour is not None:
            assert offer.price_source in bundled.sources and offer.price_as_of, offer.id
            assert offer.usd_per_hour > 0, offer.id


def test_every_figure_names_a_source_that_exists(bundled: Catalogue) -> None:
    def walk(value: object) -> None:
        if isinstance(value, Figure):
            assert value.source in bundled.sources and value.as_of
        elif isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif isinstance(value, tuple):
            for inner in value:
                walk(inner)

    for section in (bundled.gpus, bundled.policies, bundled.targets):
        walk(dict(section))


def test_every_source_is_used(bundled: Catalogue) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in compiled.sources_of(data_dir()) if path.name != "sources.yaml")
    unused = [name for name in bundled.sources if f"source: {name}" not in text]
    assert not unused


# ------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("gpus.yaml", lambda t: t.replace("  arch:", "  archh:", 1), "archh: unknown field; did you mean 'arch'?|arch: is missing"),
        ("gpus.yaml", lambda t: t.replace("value: 320 GB/s", "value: 320", 1), "expected a number with a unit"),
        ("offers/hf.yaml", lambda t: t.replace("gpu: l4,", "gpu: l44,", 1), "l4x1: gpu: 'l44' does not exist"),
        ("offers/hf.yaml", lambda t: DATED.sub("", t, count=1), "as_of: is missing; a price needs its date"),
        ("offers/hf.yaml", lambda t: t.replace("0.80 USD/h", "0.80", 1), "expected a number with a unit"),
        ("offers/hf.yaml", lambda t: t.replace("0.80 USD/h", "0 USD/h", 1), "expected more than 0"),
        ("gpus.yaml", lambda t: t + "\nt4:\n  name: again\n", "'t4' stands twice"),
        ("gpus.yaml", lambda t: t + "\n\tbad: 1\n", "a tab; YAML is indented with spaces"),
        ("gpus.yaml", lambda t: "", "is empty"),
        ("gpus.yaml", lambda t: "- a\n- b\n", "expected a mapping"),
        ("gpus.yaml", lambda t: "a: &a [x]\nb: *a\n", "aliases"),
        ("policies.yaml", lambda t: t.replace("group: light-bc", "group: heavy-bc", 1), "group: 'heavy-bc' does not exist"),
        ("profiles.csv", lambda t: t.replace("act,float32", "act2,float32", 1), "'act2' does not exist"),
        ("policies.yaml", lambda t: t.replace("chunk: 100", "chunk: 99", 1), "act: chunk: no profile has 99; profiled are 20, 50, 100"),
    ],
)
def test_a_mistake_is_one_line(data: Path, file: str, change: Callable[[str], str], expected: str) -> None:
    edit(data / file, change)
    with pytest.raises(UsageError) as caught:
        load(data, user=NONE)
    assert "\n" not in caught.value.text
    assert Path(file).name in caught.value.text
    assert any(part in caught.value.text for part in expected.split("|")), caught.value.text
    assert caught.value.exit_code == 2


def test_anchor_bomb_is_refused_before_it_is_expanded(data: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (data / "gpus.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UsageError, match="aliases"):
        load(data, user=NONE)


# ------------------------------------------------------------------------------------------ a user's own files


def test_user_files_add_and_override(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "offers").mkdir(parents=True)
    (own / "offers" / "hf.yaml").write_text(
        "offers:\n  l4x1: {price: {value: 0.55 USD/h, source: hf_jobs_pricing, as_of: '2026-11-01'}}\n"
        "  l4x9: {gpu: l4, num_gpus: 9, vcpus: 8, ram: 30 GB, price: {value: 1 USD/h, source: hf_jobs_pricing, as_of: '2026-11-01'}}\n",
        encoding="utf-8",
    )
    offers = {offer.flavor: offer for offer in load(data, user=own).offers if offer.target == "hf"}
    assert str(offers["l4x1"].usd_per_hour) == "0.55" and offers["l4x1"].price_method == "user"
    assert offers["l4x1"].vcpus == 8, "fields that the user did not give stay"
    assert offers["l4x9"].num_gpus == 9
    assert offers["t4-small"].price_method == "bundled"


def test_mistake_in_a_user_file_names_that_file(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "gpus.yaml").write_text("l4: {wats: 3}\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load(data, user=own)
    assert str(own / "gpus.yaml") in caught.value.text and "did you mean 'watts'" in caught.value.text


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("offers/hf.yaml", "offers:\n  l4x1: {price: {value: 0.55 USD/h, source: hf_jobs_pricing}}\n", "l4x1: price: as_of: is missing"),
        ("offers/hf.yaml", OWN_PRICE.format("'2026-13-41'"), "expected a date"),
        ("offers/hf.yaml", OWN_PRICE.format("banana"), "expected a date"),
        ("offers/hf.yaml", "ofers:\n  l4x1: {}\n", "ofers: unknown field; did you mean 'offers'?"),
        ("offers/hf.yaml", "offers:\n  l4x1: {gpu: l44}\n", "l4x1: gpu: 'l44' does not exist; did you mean 'l4'?"),
        ("gpu.yaml", "l4: {}\n", "there is no gpu.yaml to lay it over; did you mean 'gpus.yaml'?"),
        ("offers/lambda.yaml", "offers: {}\n", "there is no offers/lambda.yaml to lay it over"),
    ],
)
def test_mistakes_of_a_user_are_theirs(data: Path, tmp_path: Path, file: str, text: str, expected: str) -> None:
    path = tmp_path / "own" / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load(data, user=tmp_path / "own")
    assert str(path) in caught.value.text and expected in caught.value.text


def test_own_runs_alone_need_no_other_yaml(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    run = "policy: act, gpu: t4, num_gpus: 1, batch_size: 8, cameras: 2, update: 0.4 s, scored: true, kind: own log, confidence: high"
    (own / "evidence.yaml").write_text(
        f"runs:\n  own-1: {{{run}, variant: {{trained: all, dtype: float32}}, source: my.log, as_of: '2026-11-01'}}\n", encoding="utf-8")
    quick = load(data, user=own)
    (data / compiled.FILE).unlink()
    slow = load(data, user=own)
    assert set(quick.runs) == set(slow.runs) and "own-1" in {run.id for run in quick.runs}
    assert quick.digest == "", "the calibration belongs to the bundled runs alone"


def test_own_runs_may_overlay_bundled_ones_or_be_none(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "evidence.yaml").write_text("runs:\n  r060: {scored: false}\n", encoding="utf-8")
    assert "r060" not in {run.id for run in load(data, user=own).runs}
    (own / "evidence.yaml").write_text("runs:\n", encoding="utf-8")
    assert load(data, user=own).runs == load(data, user=NONE).runs
    (own / "evidence.yaml").write_text("runs:\n  x: {scored: false}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"evidence.yaml: x: .* is missing"):
        load(data, user=own)
