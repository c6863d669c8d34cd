"""A user's price feed: what a line means, what is wrong with one, and the compiled form that later plans load."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from planner import compiled, feeds
from planner.catalogue import data_dir, load
from planner.errors import UsageError
from planner.records import Catalogue, Offer

HEAD = "flavor,gpu,num_gpus,vcpus,ram_gb,disk_gb,usd_per_hour,source,as_of"
LINES = ["us/g2,l4,1,8,30,400,0.55,feed,2026-11-01", "eu/g2,l4,1,8,30,400,0.5,feed,2026-11-01", "big,h100,8,192,,,,,"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's catalogue folder with a place of their own and its feed."""
    folder = tmp_path / "own"
    write(folder, "sources.yaml", 'feed: {title: my feed, ref: none, as_of: "2026-11-01", kind: feed}\n')
    write(folder, "offers/amber.yaml", "title: Amber Cloud\nlike: hf\n")
    write(folder, "offers/amber.csv", "\n".join([HEAD, *LINES, ""]))
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def feed(catalogue: Catalogue) -> dict[str, Offer]:
    return {offer.flavor: offer for lot in catalogue.feed for offer in feeds.offers(lot)}


# ------------------------------------------------------------------------------------------ what a feed says


def test_every_line_is_an_offer(own: Path) -> None:
    found = feed(load(user=own))
    assert found["us/g2"] == Offer("amber", "us/g2", "l4", 1, 8.0, 30 * 10**9, 400 * 10**9, Decimal("0.55"), "feed", "2026-11-01", "user")
    assert found["big"] == Offer("amber", "big", "h100", 8, 192.0, None, None, None, None, None, "user")
    assert len(found) == 3


def test_a_place_of_ones_own_has_the_rules_that_it_says(own: Path) -> None:
    write(own, "offers/amber.yaml", "title: Amber Cloud\nlike: modal\nrules: {billing_unit: {value: 1 h, source: feed}, cpu_price: null}\n")
    catalogue = load(user=own)
    amber, modal = catalogue.targets["amber"], catalogue.targets["modal"]
    assert (amber.title, amber.billing_unit_s, amber.usd_per_core_hour) == ("Amber Cloud", 3600, None)
    assert (amber.startup, amber.output) == (modal.startup, modal.output)
    assert "taken to do as Modal does" in amber.unbounded[0] and len(amber.unbounded) == 1, "what is said of Modal is not said of it"


def test_a_feed_alone_keeps_the_calibration(own: Path) -> None:
    assert load(user=own).digest == load(user=Path("/nonexistent")).digest
    write(own, "gpus.yaml", "l4: {notes: mine}\n")
    assert load(user=own).digest == ""


def test_a_thousand_offers_in_yaml_are_a_feed_too(own: Path) -> None:
    price = "price: {value: 1.25 USD/h, source: feed, as_of: '2026-11-01'}"
    lines = [f"  m{n}: {{gpu: l4, num_gpus: 1, vcpus: {n}, ram: 30 GB, {price}}}" for n in range(1, feeds.FOLDED_FROM + 1)]
    lines.append(f"  two words: {{gpu: l4, num_gpus: 1, vcpus: 8, ram: 30 GB, {price}}}")
    write(own, "offers/hf.yaml", "\n".join(["offers:", *lines, ""]))
    catalogue = load(user=own)
    assert len(feed(catalogue)) == 3 + feeds.FOLDED_FROM
    assert [offer.flavor for offer in catalogue.offers if offer.price_method == "user"] == ["two words"]
    assert feed(catalogue)["m8"] == next(o for o in catalogue.offers if o.flavor == "two words")._replace(flavor="m8", disk_bytes=None)


# ------------------------------------------------------------------------------------------ what is wrong with it


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x,l44,1,8,30,400,0.55,feed,2026-11-01", ":5: column 'gpu': 'l44' does not exist; did you mean 'l4'?"),
        ("x,cpu,1,8,30,400,0.55,feed,2026-11-01", ":5: column 'gpu': expected a GPU"),
        ("x,l4,0,8,30,400,0.55,feed,2026-11-01", ":5: column 'num_gpus': expected a whole number from 1"),
        ("x,l4,1.5,8,30,400,0.55,feed,2026-11-01", ":5: column 'num_gpus'"),
        ("x,l4,²,8,30,400,0.55,feed,2026-11-01", ":5: column 'num_gpus'"),
        ("x,l4,1,8,30 GB,400,0.55,feed,2026-11-01", ":5: column 'ram_gb': expected a plain number such as 1.25, or nothing, got '30 GB'"),
        ("x,l4,1,8,30,400,NaN,feed,2026-11-01", ":5: column 'usd_per_hour': expected a plain number"),
        ("x,l4,1,8,30,400,-1,feed,2026-11-01", ":5: column 'usd_per_hour': expected a plain number"),
        ("x,l4,1,8,30,400,0.00,feed,2026-11-01", ":5: column 'usd_per_hour': expected more than 0"),
        ("x,l4,1,8,30,400,0.55,fed,2026-11-01", ":5: column 'source': 'fed' is not in sources.yaml; did you mean 'feed'?"),
        ("x,l4,1,8,30,400,0.55,,2026-11-01", ":5: column 'source': is missing"),
        ("x,l4,1,8,30,400,0.55,feed,", ":5: column 'as_of': is missing; a price needs its date"),
        ("x,l4,1,8,30,400,0.55,feed,soon", ":5: column 'as_of': expected a date"),
        ("a b,l4,1,8,30,400,0.55,feed,2026-11-01", ":5: column 'flavor': expected a name without spaces and colons"),
        ("us/g2,l4,1,8,30,400,0.55,feed,2026-11-01", ":5: column 'flavor': 'us/g2' stands twice (first in line 2)"),
        ("x,l4,1", ":5: expected 9 columns as in line 1, got 3"),
        ('"x,l4,1,8,30,400,0.55,feed,2026-11-01', "not valid CSV"),
    ],
)
def test_a_mistake_names_line_and_column(own: Path, line: str, expected: str) -> None:
    path = write(own, "offers/amber.csv", "\n".join([HEAD, *LINES, line, ""]))
    with pytest.raises(UsageError) as caught:
        load(user=own)
    assert str(path) in caught.value.text and expected in caught.value.text and "\n" not in caught.value.text


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("offers/amber.csv", "flavor,gpu\n", "amber.csv:1: column 'num_gpus': is missing"),
        ("offers/amber.csv", f"{HEAD},region\n", "amber.csv:1: column 'region': unknown"),
        ("offers/amber.csv", "flavor,gpu,num_gpus,gpu\n", "amber.csv:1: column 'gpu': stands twice"),
        ("offers/amber.csv", "", "column 'flavor': is missing"),
        ("offers/birch.csv", f"{HEAD}\n", "there is no offers/birch.yaml with the rules of this place"),
        ("offers/local.csv", f"{HEAD}\n", "nobody rents what local.yaml plans for"),
        ("offers/hf.csv", f"{HEAD}\nl4x1,l4,1,8,30,400,0.55,feed,2026-11-01\n", "'l4x1' is an offer of offers/hf.yaml already"),
        ("offers/birch.yaml", "title: Birch\nlike: local\n", "like: expected one of hf, modal, got 'local'"),
        ("offers/birch.yaml", "like: hf\n", "birch.yaml: title: is missing"),
        ("offers/Birch Co.yaml", "title: Birch\nlike: hf\n", "the name of a place is lower-case letters"),
        ("offers/birch.yaml", "title: Birch\n", "there is no offers/birch.yaml to lay it over; a place of your own says"),
        ("offers/hf.yaml", "like: modal\n", "like: unknown field"),
    ],
)
def test_a_mistake_names_the_file(own: Path, file: str, text: str, expected: str) -> None:
    path = write(own, file, text)
    with pytest.raises(UsageError) as caught:
        load(user=own)
    assert path.name in caught.value.text and expected in caught.value.text


def test_bytes_that_are_no_text_are_named(own: Path) -> None:
    (own / "offers" / "amber.csv").write_bytes(b"flavor,gpu,num_gpus\n\xff\xfe,l4,1\n")
    with pytest.raises(UsageError, match=r"amber.csv: is not UTF-8 text"):
        load(user=own)


# ------------------------------------------------------------------------------------------ the form that is kept


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One entry each time that sources are read instead of the kept form."""
    from planner import build

    calls: list[Path] = []
    original = build.build

    def counted(data: Path, user: Path | None) -> Catalogue:
        calls.append(data)
        return original(data, user)

    monkeypatch.setattr(build, "build", counted)
    return calls


def test_only_the_first_plan_after_an_edit_reads_the_sources(own: Path, tmp_path: Path, built: list[Path]) -> None:
    cache = tmp_path / "cache"
    write(own, "gpus.yaml", "l4: {notes: mine}\n")
    first, second = load(user=own, cache=cache), load(user=own, cache=cache)
    assert first == second == load(user=own) and len(built) == 2, "the third keeps nothing"
    assert [path.name for path in cache.iterdir()] == [compiled.FILE], "nothing else is left behind"
    write(own, "offers/amber.csv", "\n".join([HEAD, *LINES, "new,l4,1,,,,0.4,feed,2026-11-01", ""]))
    assert "new" in feed(load(user=own, cache=cache)) and len(built) == 3
    (own / "gpus.yaml").unlink()
    assert load(user=own, cache=cache).gpus["l4"].notes != "mine" and len(built) == 4
    load(user=own, cache=cache)
    assert len(built) == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "", lambda text: text[: len(text) // 2], lambda text: "[1, 2]\n{}", lambda text: "null\n",
        lambda text: text.replace("0.55", "0.11"), lambda text: text.replace('"l4"', '"t4"'),
        lambda text: text.partition("\n")[0] + '\n{"feed": 3}',
        lambda text: json.dumps([json.loads(text.partition("\n")[0])[0], 0]) + "\n",
    ],
)
def test_a_kept_form_that_is_broken_or_another_s_is_made_again(
    own: Path, tmp_path: Path, built: list[Path], spoil: Callable[[str], str]
) -> None:
    cache = tmp_path / "cache"
    whole = load(user=own, cache=cache)
    path = cache / compiled.FILE
    text = path.read_text(encoding="utf-8")
    path.write_text(spoil(text), encoding="utf-8")
    assert load(user=own, cache=cache) == whole and len(built) == 2
    assert path.read_text(encoding="utf-8") == text


def test_a_form_that_other_code_made_is_made_again(
    own: Path, tmp_path: Path, built: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    load(user=own, cache=cache)
    checksum = compiled._checksum
    monkeypatch.setattr(compiled, "_checksum", lambda path: "other" if path.name == "records.py" else checksum(path))
    load(user=own, cache=cache)
    assert len(built) == 2


def test_a_cache_that_cannot_be_written_is_no_error(own: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "cache"
    in_the_way.write_text("a file", encoding="utf-8")
    assert len(feed(load(user=own, cache=in_the_way))) == 3
    taken = tmp_path / "taken"
    (taken / compiled.FILE).mkdir(parents=True)  # it cannot be replaced by a file
    assert len(feed(load(user=own, cache=taken))) == 3
    assert os.listdir(taken) == [compiled.FILE], "nothing is left beside it"  # noqa: PTH208


def test_the_kept_form_holds_the_bundled_data_by_its_checksums(own: Path, tmp_path: Path, built: list[Path]) -> None:
    import shutil

    data, cache = tmp_path / "data", tmp_path / "cache"
    shutil.copytree(data_dir(), data)
    load(data, own, cache)
    path = data / "offers" / "hf.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("0.80 USD/h", "0.81 USD/h", 1), encoding="utf-8")
    assert {str(o.usd_per_hour) for o in load(data, own, cache).offers if o.flavor == "l4x1"} == {"0.81"} and len(built) == 2


def test_a_flavor_of_the_feed_is_not_listed_again_by_live_prices(own: Path) -> None:
    from planner.overlay import laid_over
    from planner.records import PriceList, Quote

    write(own, "offers/hf.csv", f"{HEAD}\nl4-new,l4,1,8,30,400,0.55,feed,2026-11-01\n")
    catalogue = load(user=own)
    quotes = tuple(Quote(name, Decimal(1), "NVIDIA L4", 1) for name in ("l4-new", "l4-newer"))
    live = laid_over(catalogue, {"hf": PriceList("hf", "hf_jobs_pricing", quotes, as_of="2027-01-01T00:00:00Z")})
    assert [offer.flavor for offer in live.offers if offer.target == "hf"] == ["l4-newer"]
    assert "l4-new" in feed(live)
