"""Step times: the calibration against its runs, precision, the loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import evidence, speed, work
from planner.catalogue import data_dir, load
from planner.evidence import Calibration
from planner.profiles import cost_of
from planner.records import Catalogue, Gpu
from planner.request import Workload
from planner.resolve import resolve
from planner.workload import Camera, Training, Variant


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(user=Path("/nonexistent"))


@pytest.fixture(scope="module")
def calibration(catalogue: Catalogue) -> Calibration:
    return evidence.load_calibration(catalogue, data_dir())


def step(catalogue: Catalogue, calibration: Calibration, training: Training, gpu: str, num_gpus: int = 1, vcpus: float = 64) -> speed.Step:
    cost = cost_of(catalogue, training.policy, training.variant, training.cameras)
    return speed.estimate(training, catalogue.gpus[gpu], num_gpus, vcpus, cost, calibration, catalogue.targets["hf"].decode_kappa)


def test_checked_in_calibration_is_current(catalogue: Catalogue) -> None:
    assert (data_dir() / evidence.CALIBRATION).read_text(encoding="utf-8") == evidence.calibration_text(catalogue)


def test_calibration_is_of_the_bundled_catalogue_only(catalogue: Catalogue) -> None:
    """A catalogue with a user's entries has no digest, and is fitted afresh."""
    fresh = evidence.load_calibration(catalogue._replace(digest="", runs=()), data_dir())
    assert fresh.corrections == {} and fresh.timed == ()


def test_fit_reproduces_its_runs(catalogue: Catalogue, calibration: Calibration) -> None:
    errors = []
    for run in evidence.scored(catalogue):
        if run.optimizer:
            continue
        training = evidence.workload_of(run, catalogue)
        predicted = step(catalogue, calibration, training, run.gpu or "", run.num_gpus or 1, vcpus=1000).seconds.p50
        errors.append(abs(predicted / (run.update_s or 1) - 1))
    errors.sort()
    assert len(errors) >= 40
    assert errors[len(errors) // 2] < 0.10
    assert errors[int(0.9 * len(errors))] < 0.30


def test_leaving_a_source_out_still_predicts_it(catalogue: Catalogue) -> None:
    """The honest error: every run predicted without its own source."""
    errors = []
    for source in sorted({run.source for run in evidence.scored(catalogue)}):
        held = evidence.calibrate(catalogue, without=frozenset({source}))
        for run in evidence.scored(catalogue):
            if run.source == source and not run.optimizer:
                predicted = step(catalogue, held, evidence.workload_of(run, catalogue), run.gpu or "", run.num_gpus or 1, vcpus=1000)
                errors.append(abs(predicted.seconds.p50 / (run.update_s or 1) - 1))
    errors.sort()
    assert errors[len(errors) // 2] < 0.30, "docs/accuracy.md states the median"


def test_precision_really_used(catalogue: Catalogue) -> None:
    gpus = catalogue.gpus

    def rate(gpu: Gpu, variant: Variant) -> tuple[float, str]:
        figure, name = work.peak_flops(gpu, variant)
        return figure.value, name

    assert rate(gpus["a100-80"], Variant("float32")) == (156e12, "TF32")
    assert rate(gpus["a100-80"], Variant("bfloat16")) == (312e12, "bf16")
    assert rate(gpus["a100-80"], Variant("float32", autocast=True)) == (312e12, "bf16")
    assert rate(gpus["t4"], Variant("float32")) == (8.1e12, "fp32")
    flops, name = rate(gpus["t4"], Variant("bfloat16"))
    assert flops == 8.1e12 and "emulated" in name


def test_terms_add_up_to_the_step(catalogue: Catalogue, calibration: Calibration) -> None:
    for policy, gpus, vcpus in (("act", 1, 64.0), ("smolvla", 4, 48.0), ("act", 1, 2.0)):
        found = step(catalogue, calibration, resolve(Workload(policy=policy, steps=1), catalogue), "l4", gpus, vcpus)
        assert sum(term.value.p50 for term in found.terms) == pytest.approx(found.seconds.p50, rel=1e-9)


def test_starved_flavor_is_slower_than_its_gpu(catalogue: Catalogue, calibration: Calibration) -> None:
    """Four cameras of AV1 video on 4 vCPUs: the loader is the limit, and is named."""
    training = resolve(Workload(policy="smolvla", steps=1, cameras=("4x1280x720",), batch_size=32), catalogue)
    starved, fed = (step(catalogue, calibration, training, "h100", vcpus=vcpus) for vcpus in (4, 96))
    assert starved.limiter == "loader"
    assert starved.seconds.p50 > 1.5 * fed.seconds.p50


def test_published_cost_of_one_sample(catalogue: Catalogue) -> None:
    """5 ms + 2.5 ms a 640×480 camera on the reference core, as measured with LeRobot 0.6."""
    training = resolve(Workload(policy="act", steps=1), catalogue)
    assert speed.sample_ms(training, 16) == pytest.approx(5 + 2 * 2.54, rel=0.05)
    old = resolve(Workload(policy="act", steps=1, lerobot_version="0.4.4"), catalogue)
    assert speed.sample_ms(old, 16) > speed.sample_ms(training, 16)
    pyav = training._replace(video_backend="pyav")
    assert speed.sample_ms(pyav, 96) > 2 * speed.sample_ms(training, 96), "one decoder thread per CPU on every access"


@pytest.mark.parametrize("codec", ["av1", "h264", "hevc", "png", "jpeg", None, "vp9"])
def test_every_codec_has_a_cost(catalogue: Catalogue, codec: str | None) -> None:
    training = resolve(Workload(policy="act", steps=1), catalogue)._replace(cameras=(Camera(640, 480, codec),))
    assert 5 < speed.sample_ms(training, 16) < 30


def test_grades(catalogue: Catalogue, calibration: Calibration) -> None:
    def grade(policy: str, gpu: str, num_gpus: int = 1, *tail: str) -> str:
        return step(catalogue, calibration, resolve(Workload(policy=policy, steps=1, tail=tail), catalogue), gpu, num_gpus).grade

    assert grade("act", "gb10") == "measured"
    assert grade("act", "gb10", 4) == "scaled", "measured on one GPU, not on four"
    assert grade("act", "a10g") == "scaled", "those runs do not say how many cameras they had"
    assert grade("act", "t4") == "scaled"
    assert grade("smolvla", "a10g", 1, "--policy.compile_model=true") == "scaled"
    assert grade("fastwam", "h100") == "modelled"


def test_every_rate_names_where_it_comes_from(catalogue: Catalogue, calibration: Calibration) -> None:
    training = resolve(Workload(policy="act", steps=10, batch_size=8, cameras=("2x640x480",), lerobot_version="0.6.1"), catalogue)
    for gpu in catalogue.gpus:
        terms = {term.name: term for term in step(catalogue, calibration, training, gpu, 2, vcpus=1000).terms}
        for name in ("optimizer step", "arithmetic", "activation traffic", "gradient exchange"):
            assert catalogue.source(terms[name].source), f"{gpu}: {name} says only {terms[name].source!r}"
