"""Facts of datasets from the Hub: the real client against a loopback one, its every failure, and what is kept of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from planner import Search, Workload, facts, plan
from planner.errors import NotAuthorised, PlanError, Unreachable, UsageError
from planner.plans import Plan
from planner.workload import Camera
from tests.servers.hub import Datasets, serve
from tests.servers.loopback import FAULTS, TOKEN
from tests.test_datasets import info

NOW = datetime(2026, 10, 9, 12, tzinfo=timezone.utc)
FOR_ONE_GPU = Search(targets=("hf",), gpus=("l4",))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Datasets]:
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("PLAN_HOME", str(tmp_path / "home"))
        yield server


def ask(dataset: str | None = "me/pick", *, now: datetime = NOW, search: dict[str, Any] | None = None, **said: Any) -> Plan:
    return plan(Workload(**{"policy": "act", "dataset": dataset, **said}), FOR_ONE_GPU._replace(**(search or {})), now=now)


def paths(hub: Datasets) -> list[str]:
    return [request.path for request in hub.requests]


def codes(result: Plan) -> list[str]:
    return [code for code, _ in result.warnings if code != "price-age"]


class TestFacts:
    def test_frames_cameras_size_and_commit(self, hub: Datasets) -> None:
        repository = hub.dataset("me/pick", info(), **{"data/file.parquet": b"x" * 5000})
        work = ask().workload
        assert (work.dataset, work.dataset_root, work.dataset_revision) == ("me/pick", None, "1" * 40)
        assert (work.frames, work.episodes, work.fps) == (15_000, 50, 30.0)
        assert work.cameras == (Camera(640, 480, "av1", "observation.images.front"),)
        assert work.dataset_bytes == 5000 + len(repository.commits["1" * 40]["meta/info.json"])
        assert not work.warnings

    def test_two_small_answers_and_nothing_else(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(), **{"data/file.parquet": b"x" * 5000})
        ask()
        assert paths(hub) == ["/datasets/me/pick/resolve/v3.0/meta/info.json", "/api/datasets/me/pick"]

    def test_the_revision_is_the_tag_that_lerobot_reads(self, hub: Datasets) -> None:
        repository = hub.dataset("me/pick", info(), "v3.0")
        repository.commit("main", files={"meta/info.json": json.dumps(info(total_frames=99_999)).encode(), "big": b"x" * 9999})
        work = ask().workload
        assert (work.frames, work.dataset_revision) == (15_000, "1" * 40)
        assert work.dataset_bytes == len(repository.commits["1" * 40]["meta/info.json"]), "of that commit, not of main"

    def test_without_that_tag_it_is_main(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(), "main", "v2.1")
        assert ask().workload.dataset_revision == "1" * 40

    @pytest.mark.parametrize("said", [{"dataset": "me/pick@old"}, {"tail": ("--dataset.revision=old",)},
                                      {"dataset": None, "tail": ("--dataset.repo_id=me/pick", "--dataset.revision=old")}])
    def test_a_revision_that_is_said(self, hub: Datasets, said: dict[str, Any]) -> None:
        repository = hub.dataset("me/pick", info(total_frames=60), "old")
        repository.commit("main", "v3.0", files={"meta/info.json": json.dumps(info()).encode()})
        work = ask(**{"dataset": "me/pick", **said}).workload
        assert (work.dataset, work.frames, work.dataset_revision) == ("me/pick", 60, "1" * 40)

    def test_files_behind_a_redirect(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info()).moved = True
        assert ask().workload.dataset_revision == "1" * 40
        assert "/moved/me/pick/" + "1" * 40 + "/meta/info.json" in paths(hub)

    def test_a_pasted_command_has_the_facts_too(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        command = ("lerobot-train", "--policy.type=act", "--dataset.repo_id=me/pick", "--steps=500")
        work = plan(Workload(tail=command), FOR_ONE_GPU, now=NOW).workload
        assert (work.frames, len(work.cameras)) == (15_000, 1)

    def test_the_users_token_opens_a_private_one(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.dataset("me/pick", info()).private = True
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert ask().workload.frames == 15_000
        assert {request.token for request in hub.requests} == {TOKEN}

    def test_an_old_format_is_warned_of_with_what_to_do(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(codebase_version="v2.1"), "main", "v2.1")
        ((code, text),) = ask().workload.warnings
        assert code == "dataset-version" and "me/pick on the Hub is in format v2.1, which LeRobot 0.6.1 refuses" in text
        assert "python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=me/pick;" in text and "--push-to-hub=false" in text

    def test_a_size_that_the_hub_does_not_say_is_summed(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(), **{"data/file.parquet": b"x" * 5000}).says_size = False
        assert (ask().workload.dataset_bytes or 0) > 5000

    def test_a_size_that_cannot_be_had_is_estimated_and_said(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        hub.faults["/api/datasets/me/pick"] = FAULTS["500"]
        result = ask()
        assert result.workload.dataset_bytes is None and codes(result) == ["dataset-size"]
        hub.faults.clear()
        assert ask(now=NOW + timedelta(days=2)).workload.dataset_bytes, "asked again with the rest"

    def test_flags_that_contradict_the_dataset(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        for said, expected in (({"frames": 9}, "--frames 9"), ({"fps": 20.0}, "--fps"), ({"cameras": ("640x480",)}, "--cameras"),
                               ({"episodes": 51}, "me/pick has 50"), ({"tail": ("--dataset.repo_id=me/other",)}, "me/other")):
            with pytest.raises(UsageError, match=expected):
                ask(**said)


class TestEpisodes:
    LINES = "".join(json.dumps({"episode_index": n, "tasks": ["x"], "length": 100 + n}) + "\n" for n in range(50)).encode()

    @staticmethod
    def parquet(first: int, last: int) -> bytes:
        file = BytesIO()
        episodes = list(range(first, last))
        parquet.write_table(pyarrow.table({"episode_index": episodes, "length": [100 + n for n in episodes]}), file)
        return file.getvalue()

    def v3(self, hub: Datasets) -> None:
        name = "meta/episodes/chunk-000/file-{:03d}.parquet"
        hub.dataset("me/pick", info(), **{name.format(0): self.parquet(0, 30), name.format(1): self.parquet(30, 50)})

    @pytest.mark.parametrize("said", [{"episodes": 3}, {"tail": ("--dataset.episodes=[0,1,2]",)}])
    def test_v3(self, hub: Datasets, said: dict[str, Any]) -> None:
        self.v3(hub)
        work = ask(**said).workload
        assert (work.frames, work.episodes, work.dataset_episodes, work.warnings) == (303, 3, (0, 1, 2), ())

    def test_v2(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(codebase_version="v2.1"), "main", **{"meta/episodes.jsonl": self.LINES})
        assert ask(tail=("--dataset.episodes=[0,49]",)).workload.frames == 249

    def test_they_are_kept_too(self, hub: Datasets) -> None:
        self.v3(hub)
        ask()
        ask(episodes=3)
        hub.requests.clear()
        assert ask(episodes=4).workload.frames == 406 and not hub.requests

    def test_a_list_that_ends_early(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(), **{"meta/episodes/chunk-000/file-000.parquet": self.parquet(0, 30)})
        result = ask(episodes=3)
        assert result.workload.frames == 900 and "has no meta/episodes/chunk-000/file-001" in dict(result.warnings)["frames"]

    def test_only_a_part_needs_them(self, hub: Datasets) -> None:
        self.v3(hub)
        ask()
        assert not any("episodes" in path for path in paths(hub))

    def test_without_a_reader_the_mean_stands_in_and_nothing_is_fetched(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
        self.v3(hub)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        result = ask(episodes=3)
        assert result.workload.frames == 900 and not any("episodes" in path for path in paths(hub))
        ((code, text),) = result.workload.warnings
        assert code == "frames" and "mean length of all 50" in text and "pip install pyarrow" in text

    @pytest.mark.parametrize("fault", ["500", "dropped"])
    def test_where_the_hub_does_not_give_them_the_mean_stands_in(self, hub: Datasets, fault: str) -> None:
        self.v3(hub)
        hub.faults["/meta/episodes/"] = FAULTS[fault]
        result = ask(episodes=3)
        assert result.workload.frames == 900 and codes(result) == ["frames"]

    def test_a_list_that_is_too_large(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
        self.v3(hub)
        monkeypatch.setattr("planner.hub.MAX_EPISODES_BYTES", 10)
        assert "is larger than 0 MiB" in dict(ask(episodes=3).warnings)["frames"]

    def test_offline_with_facts_but_without_lengths(self, hub: Datasets) -> None:
        self.v3(hub)
        ask()
        assert "not read before" in dict(ask(episodes=3, search={"offline": True}).warnings)["frames"]

    def test_a_list_that_is_broken(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info(codebase_version="v2.1"), "main", **{"meta/episodes.jsonl": b"{}\n"})
        result = ask(episodes=3)
        assert result.workload.frames == 900
        assert "me/pick/meta/episodes.jsonl on the Hub: line 1: " in dict(result.warnings)["frames"]


class TestKept:
    def test_the_second_plan_asks_nothing(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        first = ask()
        hub.requests.clear()
        second = ask(now=NOW + timedelta(hours=23))
        assert not hub.requests and second.workload == first.workload

    def test_after_a_day_it_asks_whether_the_branch_moved(self, hub: Datasets) -> None:
        repository = hub.dataset("me/pick", info())
        ask()
        repository.commit("main", "v3.0", files={"meta/info.json": json.dumps(info(total_frames=20_000)).encode()})
        assert ask(now=NOW + timedelta(hours=23)).workload.frames == 15_000
        work = ask(now=NOW + timedelta(hours=25)).workload
        assert (work.frames, work.dataset_revision) == (20_000, "2" * 40)

    def test_what_has_not_moved_is_asked_for_its_commit_alone(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.requests.clear()
        ask(now=NOW + timedelta(hours=25))
        assert len(hub.requests) == 1
        ask(now=NOW + timedelta(hours=48))
        assert len(hub.requests) == 1, "the answer counts from when it was given"

    @pytest.mark.parametrize("search", [{"live": True}, {"dataset_age_s": 0.0}])
    def test_asking_can_be_asked_for(self, hub: Datasets, search: dict[str, Any]) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.requests.clear()
        ask(search=search)
        assert hub.requests

    def test_a_commit_never_ages(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        ask("me/pick@" + "1" * 40)
        hub.requests.clear()
        ask("me/pick@" + "1" * 40, now=NOW + timedelta(days=400), search={"live": True})
        assert not hub.requests

    def test_a_clock_that_went_back(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.requests.clear()
        ask(now=NOW - timedelta(days=1))
        assert hub.requests

    @pytest.mark.parametrize("fault", ["500", "503", "429", "html", "dropped", "truncated"])
    def test_old_facts_are_better_than_none_and_their_age_is_said(self, hub: Datasets, fault: str) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.faults["/"] = FAULTS[fault]
        result = ask(now=NOW + timedelta(days=3))
        assert result.workload.frames == 15_000
        ((code, text),) = result.workload.warnings
        assert code == "dataset-age" and "3 days ago" in text and "1111111" in text and "127.0.0.1" in text

    def test_facts_of_what_is_gone_do_not_count(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.repositories.clear()
        with pytest.raises(UsageError, match="not on the Hub"):
            ask(now=NOW + timedelta(days=3))

    def test_offline_takes_them_at_any_age(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.requests.clear()
        assert codes(ask(now=NOW + timedelta(hours=1), search={"offline": True, "live": True})) == []
        ((_, text),) = ask(now=NOW + timedelta(hours=30), search={"offline": True}).workload.warnings
        assert "30 hours ago" in text and "--offline" in text and not hub.requests

    @pytest.mark.parametrize("broken", ["", "{", "[]", "null", "[" * 100_000, "\udc80",
                                        '{"format": 1}', "cut", "wrong info", "wrong size", "wrong date", "other repository"])
    def test_a_broken_file_counts_as_none_and_is_written_anew(self, hub: Datasets, broken: str) -> None:
        hub.dataset("me/pick", info())
        ask()
        file = facts.path(hub.url, "me/pick")
        whole = file.read_text()
        changed = {
            "cut": whole[: len(whole) // 2], "wrong info": whole.replace('"total_frames":15000', '"total_frames":"x"'),
            "wrong size": whole.replace('"bytes":', '"bytes":-'), "wrong date": whole.replace("2026-10-09T", "yesterday"),
            "other repository": whole.replace("me/pick", "me/other"),
        }.get(broken, broken)  # fmt: skip
        assert changed != whole
        file.write_text(changed, errors="surrogateescape")
        hub.requests.clear()
        assert ask().workload.frames == 15_000 and hub.requests
        assert facts.load(hub.url, "me/pick", None) is not None

    def test_a_cache_that_cannot_be_written_costs_nothing(self, hub: Datasets, tmp_path: Path) -> None:
        hub.dataset("me/pick", info())
        (tmp_path / "home").write_text("a file where the folder should be")
        assert ask().workload.frames == 15_000

    def test_hubs_do_not_mix(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.dataset("me/pick", info())
        ask()
        with serve() as other:
            other.dataset("me/pick", info(total_frames=77))
            monkeypatch.setenv("HF_ENDPOINT", other.url)
            assert ask().workload.frames == 77

    def test_addresses_that_share_a_file_do_not_mix(self, hub: Datasets) -> None:
        known = facts.Facts("1" * 40, NOW, {}, 1)
        facts.save("https://a/b", "me/pick", None, known)
        assert facts.path("https://a/b", "me/pick") == facts.path("https://a-b", "me/pick")
        assert facts.load("https://a/b", "me/pick", None) == known and facts.load("https://a-b", "me/pick", None) is None

    def test_a_hub_that_does_not_answer_is_asked_once(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        ask()
        hub.requests.clear()
        hub.faults["/"] = FAULTS["500"]
        assert codes(ask(episodes=3, now=NOW + timedelta(days=2))) == ["dataset-age", "frames"] and len(hub.requests) == 1

    def test_revisions_do_not_mix_and_what_no_name_leads_to_is_dropped(self, hub: Datasets) -> None:
        repository = hub.dataset("me/pick", info(total_frames=60), "v3.0", "main")
        ask(), ask("me/pick@main")
        new = repository.commit("v3.0", "main", files={"meta/info.json": json.dumps(info()).encode()})
        assert ask(search={"live": True}).workload.frames == 15_000
        assert ask("me/pick@main").workload.frames == 60, "not asked again yet"
        ask("me/pick@main", search={"live": True})
        assert set(json.loads(facts.path(hub.url, "me/pick").read_text())["commits"]) == {new}

    def test_several_at_once(self, hub: Datasets) -> None:
        hub.dataset("me/pick", info())
        threads = [threading.Thread(target=ask, kwargs={"search": {"live": True}}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert facts.load(hub.url, "me/pick", None) is not None
        assert [file.name for file in facts.path(hub.url, "me/pick").parent.iterdir()] == [facts.path(hub.url, "me/pick").name]


#: what goes wrong -> (error, its code, what the line must contain besides the repository)
FAILURES: dict[str, tuple[type[PlanError], str, tuple[str, ...]]] = {
    "missing": (UsageError, "dataset-missing", ("not on the Hub, or is private", "hf auth login")),
    "private": (UsageError, "dataset-missing", ("not on the Hub, or is private", "hf auth login")),
    "gated": (NotAuthorised, "dataset-gated", ("accept its terms at http", "/datasets/me/pick", "hf auth login")),
    "bad token": (NotAuthorised, "token", ("refuses the token", "hf auth login", "HF_TOKEN")),
    "forbidden": (NotAuthorised, "token", ("may not read", "/settings/tokens")),
    "revision": (UsageError, "dataset", ("no revision nope",)),
    "no dataset": (UsageError, "dataset", ("no meta/info.json", "no LeRobotDataset")),
    "malformed": (UsageError, "dataset", ("meta/info.json on the Hub: total_frames: ",)),
    "no JSON": (UsageError, "dataset", ("meta/info.json on the Hub: file: not valid JSON",)),
    "no id": (UsageError, "dataset", ("cannot be an id",)),
    "429": (Unreachable, "hub", ("429", "try again")),
    "500": (Unreachable, "hub", ("answers 500", "try again")),
    "503": (Unreachable, "hub", ("answers 503", "try again")),
    "html": (Unreachable, "hub", ("a login page",)),
    "dropped": (Unreachable, "hub", ("breaks its answer off",)),
    "truncated": (Unreachable, "hub", ("breaks its answer off",)),
    "hangs": (Unreachable, "hub", ("does not answer within 0.17 s",)),
    "refused": (Unreachable, "hub", ("cannot be reached",)),
}


class TestFailures:
    def failing(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch, why: str, **said: Any) -> Plan:
        repository = hub.dataset("me/pick", info())
        name, search = "me/pick", {}
        if why == "missing":
            hub.repositories.clear()
            monkeypatch.setenv("HF_TOKEN", TOKEN)
        elif why == "private":
            repository.private = True
        elif why == "gated":
            repository.gated = True
        elif why == "bad token":
            monkeypatch.setenv("HF_TOKEN", "hf_expired")
        elif why == "forbidden":
            hub.faults["/"] = FAULTS["500"]._replace(status=403, body={"error": "Forbidden"})
        elif why == "revision":
            name = "me/pick@nope"
        elif why == "no dataset":
            hub.dataset("me/pick", None, **{"README.md": b"# pick"})
        elif why == "malformed":
            hub.dataset("me/pick", info(total_frames="many"))
        elif why == "no JSON":
            hub.dataset("me/pick", None, **{"meta/info.json": b"{"})
        elif why == "no id":
            name = "me/pi--ck"
        elif why == "refused":
            monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        else:
            hub.faults["/"] = FAULTS[why]
        if why == "hangs":
            search = {"deadline_s": 0.2}
        return ask(name, search=search, **said)

    @pytest.mark.parametrize("why", FAILURES)
    def test_one_line_that_names_the_repository_and_the_way_out(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
        kind, code, words = FAILURES[why]
        with pytest.raises(kind) as caught:
            self.failing(hub, monkeypatch, why)
        text = caught.value.text
        assert caught.value.code == code and len(text.splitlines()) == 1 and len(text) < 300
        assert "me/pi" in text and "--frames" in text and all(word in text for word in words), text
        assert "hf_expired" not in text and TOKEN not in text

    @pytest.mark.parametrize("why", FAILURES)
    def test_with_numbers_of_the_users_own_there_is_a_plan_and_a_warning(
        self, hub: Datasets, monkeypatch: pytest.MonkeyPatch, why: str
    ) -> None:
        kind, code, words = FAILURES[why]
        result = self.failing(hub, monkeypatch, why, frames=45_000)
        assert result.recommended is not None and result.workload.frames == 45_000
        assert result.workload.dataset_revision == ("nope" if why == "revision" else None), "what is not known is not pinned"
        (found, text), = result.workload.warnings
        assert found == code and all(word in text for word in words) and "--frames" not in text
        assert ("the training would stop" in text) == (kind is not Unreachable), text

    def test_nothing_is_kept_of_a_failure(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError):
            self.failing(hub, monkeypatch, "malformed")
        assert facts.load(hub.url, "me/pick", None) is None

    def test_episodes_that_stand_in_for_the_dataset_are_all_trained_and_that_is_said(
        self, hub: Datasets, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = self.failing(hub, monkeypatch, "500", episodes=10)
        assert (result.workload.frames, result.workload.dataset_episodes) == (9000, None)
        assert "every episode of the dataset" in result.warnings[0][1]

    def test_other_mistakes_are_still_told(self, hub: Datasets) -> None:
        with pytest.raises(UsageError, match="no policy"):
            plan(Workload(policy="nope", dataset="me/pick"), FOR_ONE_GPU, now=NOW)

    def test_offline_before_anything_was_read(self, hub: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError, match="leave --offline out once"):
            ask(search={"offline": True})
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(UsageError, match="leave HF_HUB_OFFLINE=1 out once"):
            ask()
        assert codes(ask(frames=9000)) == ["offline"] and not hub.requests
