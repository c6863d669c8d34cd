"""planner.toml and PLAN_… variables: which value holds, where it says it comes from, and how a mistake is told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.commands import main, settings
from planner.recipes import lerobot
from planner.targets import modal

WORK = ("--policy", "act", "--episodes", "50")
TOKEN = "hf_" + "loopback" * 4


class Room:
    """A home, a repository with a folder in it, and the command line run in that folder."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[bytes], patch: pytest.MonkeyPatch) -> None:
        self.home, self.project, self.here = root / "home", root / "project", root / "project" / "sub"
        (self.project / ".git").mkdir(parents=True)
        self.here.mkdir()
        self._capture, self._patch = capture, patch
        for name in [name for name in os.environ if name.startswith("PLAN_")]:
            patch.delenv(name)
        patch.setenv("PLAN_HOME", str(self.home))
        patch.setenv("HOME", str(root))
        patch.setenv("COLUMNS", "200")
        patch.chdir(self.here)

    def user(self, text: str | bytes) -> Path:
        return self._write(self.home / "config" / "planner.toml", text)

    def own(self, text: str | bytes) -> Path:
        return self._write(self.project / "planner.toml", text)

    def _write(self, path: Path, text: str | bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def variable(self, name: str, value: str) -> None:
        self._patch.setenv(name, value)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        code = main(arguments)
        done = self._capture.readouterr()
        return code, done.out.decode(), done.err.decode()

    def document(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json")[1])

    def setting(self, key: str) -> dict[str, Any]:
        (one,) = [one for one in self.document("config")["settings"] if one["key"] == key]
        return dict(one)

    def refuses(self, *arguments: str) -> str:
        """The one line of a usage error."""
        code, out, err = self(*(arguments or WORK))
        assert (code, out) == (2, ""), err
        (line,) = err.splitlines()
        assert line.startswith("error: ") and line.isprintable() and len(line) < 400
        return line


@pytest.fixture
def room(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, capsysbinary, monkeypatch)


def targets(document: Any) -> set[str]:
    return {row["target"] for row in document["estimates"]}


class TestWhichHolds:
    def test_flags_beat_variables_beat_the_project_beat_the_user(self, room: Room) -> None:
        room.user('optimize = "time"\n')
        assert room.setting("optimize")["origin"].endswith("home/config/planner.toml: optimize")
        room.own('optimize = "balanced"\n')
        one = room.setting("optimize")
        assert (one["value"], one["layer"], one["origin"]) == ("balanced", "project", "../planner.toml: optimize")
        assert len(one["over"]) == 1 and "time" in one["over"][0]
        room.variable("PLAN_OPTIMIZE", "cost")
        assert room.setting("optimize")["origin"] == "PLAN_OPTIMIZE"
        assumed = room.document(*WORK)["assumptions"]
        assert {"name": "optimize", "value": "cost", "flag": "--optimize", "origin": "PLAN_OPTIMIZE"} in assumed
        assert "optimize" not in {one["name"] for one in room.document(*WORK, "--optimize", "time")["assumptions"]}

    def test_a_configured_value_is_the_flags_value_and_is_traced(self, room: Room) -> None:
        room.own('target = ["hf", "local"]\ngpu = "l4"\nmax_cost = 7.5\nattempts = 1\nlerobot_version = "0.4.4"\n')
        configured = room.document(*WORK)
        flags = ("--target", "hf", "--target", "local", "--gpu", "l4", "--max-cost", "7.5", "--attempts", "1", "--lerobot-version", "0.4.4")
        (room.project / "planner.toml").unlink()
        said = room.document(*WORK, *flags)
        rows = [row for row in configured["estimates"] if row["target"] == "hf"]
        assert rows == [row for row in said["estimates"] if row["target"] == "hf"] and rows
        origins = {one["name"]: one["origin"] for one in configured["assumptions"] if one["origin"]}
        assert origins == {key: f"../planner.toml: {key}" for key in ("target", "gpu", "max_cost", "attempts", "lerobot_version")}
        assert all(one["origin"] is None for one in said["assumptions"])

    def test_the_table_names_the_file(self, room: Room) -> None:
        room.own('target = "modal"\n')
        assert "target modal (../planner.toml: target)" in room(*WORK)[1]

    def test_an_error_about_a_configured_value_names_the_file(self, room: Room) -> None:
        room.own('target = "hff"\n')
        assert "did you mean hf" in (line := room.refuses()) and "(--target stands in ../planner.toml: target)" in line

    def test_without_a_repository_only_the_current_folder_is_read(self, room: Room) -> None:
        room.own('target = "modal"\n')
        (room.project / ".git").rmdir()
        assert room.setting("target")["value"] is None
        (room.here / "planner.toml").write_text('target = "hf"\n')
        assert room.setting("target")["origin"] == "planner.toml: target"

    def test_nothing_above_the_repository_is_read(self, room: Room) -> None:
        (room.project.parent / "planner.toml").write_text('target = "hf"\n')
        assert room.setting("target")["value"] is None

    def test_an_empty_variable_says_nothing_and_others_variables_are_left_alone(self, room: Room) -> None:
        room.own('target = "modal"\n')
        room.variable("PLAN_TARGET", "")
        room.variable("PLAN_9_FROM_OUTER_SPACE", "1")
        assert room.setting("target")["value"] == ["modal"]
        assert room.document("config")["ignored"] == ["PLAN_9_FROM_OUTER_SPACE"]
        room.variable("PLAN_TARGET", "hf, local")
        assert room.setting("target")["value"] == ["hf", "local"]

    def test_every_key_has_a_variable_and_is_read(self, room: Room) -> None:
        samples = {"targets": "hf", "gpus": "l4", "optimize": "time"}
        for key in settings.KEYS:
            text = samples.get(key.option) or ("1" if key.number else "name-1")
            room.variable(key.variable, text)
            assert room.setting(key.name)["origin"] == key.variable


class TestFlagsWinSilently:
    """A flag that contradicts what is configured is followed without a word."""

    def test_a_card_that_the_configured_place_does_not_have(self, room: Room) -> None:
        room.own('target = "hf"\nmax_cost = 5\n')
        document = room.document(*WORK, "--gpu", "rtx4090")
        assert targets(document) == {"local"} and document["recommended"]
        assert "target" not in {one["name"] for one in document["assumptions"]}

    def test_a_budget_for_rent_does_not_rule_out_a_card_of_ones_own(self, room: Room) -> None:
        room.user("max_cost = 5\n")
        own = ("--gpu", "rtx4090", "--target", "local")
        assert room.document(*WORK, *own)["recommended"] and room(*WORK, *own, "--max-cost", "5")[0] == 4
        room.variable("PLAN_ELECTRICITY", "0.31")
        document = room.document(*WORK, *own)
        assert document["estimates"][0]["usd"]["p50"] > 0
        assert {"name": "electricity", "value": "0.31 USD/kWh", "flag": "--electricity", "origin": "PLAN_ELECTRICITY"} \
            in document["assumptions"]

    def test_a_place_that_does_not_have_the_configured_card(self, room: Room) -> None:
        room.own('gpu = "h100"\n')
        assert targets(room.document(*WORK, "--target", "hf")) == {"hf"}

    def test_two_configured_values_that_contradict_are_an_error(self, room: Room) -> None:
        room.own('target = "hf"\ngpu = "h100"\n')
        line = room.refuses()
        assert "--target stands in" in line and "--gpu stands in" in line

    def test_the_row_that_is_to_be_explained(self, room: Room) -> None:
        room.own('target = "modal"\ngpu = "h100"\n')
        assert room("explain", "hf:l4x1", *WORK)[0] == 0

    def test_the_place_whose_command_is_asked_for(self, room: Room) -> None:
        room.own('target = "modal"\n')
        room.variable("PLAN_NAMESPACE", "lab")
        code, out, err = room(*WORK, "--dataset", "me/x", "--emit", "hf", "--repo-id", "me/y")
        assert code == 0 and "--namespace lab" in out
        assert "assumed: namespace lab (PLAN_NAMESPACE)" in err and "assumed: target" not in err
        assert room(*WORK, "--dataset", "me/x", "--emit", "modal")[0] == 0


class TestProjectFiles:
    """A checkout is not the user."""

    @pytest.mark.parametrize("line", ['namespace = "evil"', 'trainer = "./evil"', 'secrets.hf = "prod"'])
    def test_may_not_say_who_pays_what_runs_or_which_secrets_go(self, room: Room, line: str) -> None:
        room.own(line + "\n")
        assert "not for a project's file" in (error := room.refuses()) and "../planner.toml" in error and "PLAN_" in error
        room.own("")
        room.user(line + "\n")
        assert room(*WORK)[0] == 0

    @pytest.mark.parametrize(("key", "user", "higher", "lower"), [
        ("max_cost", "10", "50", "5"), ("max_cost_per_day", "10", "50", "5"), ("attempts", "3", "9", "2"),
        ("max_price_age", "30", "365", "7"),
    ])  # fmt: skip
    def test_may_only_lower_limits(self, room: Room, key: str, user: str, higher: str, lower: str) -> None:
        room.user(f"{key} = {user}\n")
        room.own(f"{key} = {higher}\n")
        one = room.setting(key)
        assert (one["value"], one["layer"]) == (float(user), "user") and "not taken" in one["over"][0] and higher in one["over"][0]
        room.own(f"{key} = {lower}\n")
        one = room.setting(key)
        assert (one["value"], one["layer"]) == (float(lower), "project")

    def test_may_not_raise_what_holds_without_the_user(self, room: Room) -> None:
        room.own("attempts = 9\nmax_price_age = 3650\nmax_cost = 3\n")
        assert room.setting("attempts")["value"] == 1 and room.setting("max_price_age")["value"] == 90
        assert room.setting("max_cost")["value"] == 3
        document = room.document(*WORK)
        assert {row["attempts"] for row in document["estimates"]} == {1}
        (said,) = [one["origin"] for one in document["assumptions"] if one["name"] == "attempts"]
        assert "attempts = 9, which is not taken" in said

    def test_a_variable_is_the_users_and_may_raise_them(self, room: Room) -> None:
        room.own("max_cost = 3\n")
        room.variable("PLAN_MAX_COST", "30")
        assert room.setting("max_cost")["value"] == 30


class TestWhatTheCommandCarries:
    def test_volumes_and_secrets_by_name(self, room: Room) -> None:
        room.user('[volumes]\noutputs = "lab-out"\ndatasets = "lab-data"\n[secrets]\nhf = "lab-hf"\n')
        code, out, err = room(*WORK, "--dataset", "me/x", "--emit", "modal")
        assert code == 0 and 'Volume.from_name("lab-out"' in out and 'Volume.from_name("lab-data"' in out
        assert 'Volume.from_name("huggingface-cache"' in out and 'Secret.from_name("lab-hf"' in out
        assert "lerobot-outputs" not in out and "huggingface-secret" not in out
        assert "modal secret create lab-hf HF_TOKEN=" in err and "assumed: volumes.outputs lab-out (" in err

    def test_the_trainer_of_this_machine(self, room: Room) -> None:
        room.user('trainer = "/opt/le robot/bin/lerobot-train"\n')
        out = room(*WORK, "--dataset", "me/x", "--gpu", "rtx4090", "--emit", "local")[1]
        assert out.startswith("'/opt/le robot/bin/lerobot-train' --policy.type=act")
        out = room(*WORK, "--dataset", "me/x", "--gpu", "rtx4090", "--num-gpus", "2", "--emit", "local")[1]
        assert out.startswith("'/opt/le robot/bin/accelerate' launch")

    def test_defaults_are_what_the_rooms_use(self) -> None:
        default = {key.name: key.default for key in settings.KEYS}
        volumes = {"outputs": lerobot.OUTPUTS, "datasets": lerobot.DATASETS, "cache": lerobot.CACHE}
        assert {key: default[f"volumes.{key}"] for key in volumes} == {key: volume.name for key, volume in volumes.items()}
        assert {modal.VARIABLES[key]: default[f"secrets.{key}"] for key in modal.VARIABLES} == modal.SECRETS

    def test_a_name_cannot_carry_code(self, room: Room) -> None:
        room.user('[volumes]\noutputs = "x`\\"\\"\\"\\nimport os"\n')
        assert "volumes.outputs takes a name" in room.refuses()


#: name -> (content of the user's file, what the line must contain)
WRONG: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "no TOML": ("target = \n", ("planner.toml:1: not valid TOML",)),
    "no TOML further down": ('target = "hf"\n\ngpu = l4\n', ("planner.toml:3: not valid TOML",)),
    "twice": ('target = "hf"\ntarget = "hf"\n', ("planner.toml:2: not valid TOML",)),
    "never closed": ('target = ["hf"\n', ("planner.toml:1: not valid TOML",)),
    "unknown key": ("max_csot = 5\n", ("max_csot: no such key", "did you mean max_cost")),
    "flag's spelling": ("max-cost = 5\n", ("max-cost: no such key", "did you mean max_cost")),
    "unknown key in a table": ('[volumes]\noutput = "x"\n', ("volumes.output: no such key", "volumes.outputs")),
    "unknown table": ("[plan]\nmax_cost = 5\n", ("plan: no such key",)),
    "table as a key": ('volumes = "x"\n', ("volumes is a table", "[volumes]", "outputs")),
    "number in quotes": ('max_cost = "5"\n', ("max_cost takes a number", "without quotes")),
    "truth for a number": ("attempts = true\n", ("attempts takes a number",)),
    "text without quotes": ("lerobot_version = 0.6\n", ("lerobot_version takes text", "in quotes")),
    "a list for one": ('optimize = ["cost"]\n', ("optimize takes text",)),
    "an empty list": ("target = []\n", ("target takes text or a list",)),
    "a list of numbers": ("gpu = [4]\n", ("gpu takes text",)),
    "below the limit": ("max_cost = 0\n", ("max_cost must be above 0",)),
    "negative": ("max_cost = -5\n", ("max_cost must be above 0",)),
    "not a number": ("max_cost = nan\n", ("max_cost takes dollars",)),
    "infinite": ("deadline = inf\n", ("deadline takes a number",)),
    "a fraction of a try": ("attempts = 1.5\n", ("attempts takes a whole number",)),
    "too many": ("attempts = 1000\n", ("attempts must be at most 100",)),
    "endless digits": ("attempts = " + "9" * 5000 + "\n", ("planner.toml",)),
    "endless hexadecimal": ("attempts = 0x" + "f" * 5000 + "\n", ("attempts: that number is too large",)),
    "an exponent bomb": ("max_cost = 1e999999999\n", ("max_cost",)),
    "lists without end": ("target = " + "[" * 5000 + "\n", ("planner.toml",)),
    "one of a few": ('optimize = "costs"\n', ("optimize must be cost, time or balanced", "did you mean cost")),
    "empty": ('target = " "\n', ("target is empty",)),
    "a date": ("max_cost = 2026-01-01\n", ("max_cost takes a number",)),
    "not UTF-8": (b'target = "hf"\n# \xff\n', ("planner.toml:2: is not UTF-8",)),
    "a novel": ("#" * 1_100_000, ("larger than 1 MB",)),
}


class TestMistakes:
    @pytest.mark.parametrize(("content", "parts"), WRONG.values(), ids=WRONG.keys())
    def test_is_one_line_that_names_file_and_key(self, room: Room, content: str | bytes, parts: tuple[str, ...]) -> None:
        room.user(content)
        line = room.refuses()
        assert "home/config/planner.toml" in line
        for part in parts:
            assert part in line
        assert room.refuses("config") == line

    @pytest.mark.parametrize("content", [
        f'hf_token = "{TOKEN}"', f'token = "{TOKEN}"', f'[secrets]\nHF_TOKEN = "{TOKEN}"', f'[secrets]\nhf = "{TOKEN}"',
        f'namespace = "{TOKEN}"', f'gpu = ["l4", "{TOKEN}"]', f'"{TOKEN}" = 1', 'modal_token_secret = "as-abcdefghijklmnopqrstuv"',
        'wandb_api_key = "x"', 'password = "x"',
    ])  # fmt: skip
    def test_a_credential_is_refused_and_not_repeated(self, room: Room, content: str) -> None:
        room.user(content + "\n")
        line = room.refuses()
        assert "hf auth login" in line and "[secrets]" in line and "planner.toml" in line
        assert TOKEN not in line and "as-abc" not in line

    def test_a_credential_in_a_variable_is_not_repeated(self, room: Room) -> None:
        room.variable("PLAN_NAMESPACE", TOKEN)
        assert "PLAN_NAMESPACE" in (line := room.refuses()) and TOKEN not in line

    def test_a_variable_is_named(self, room: Room) -> None:
        room.variable("PLAN_MAX_COST", "cheap")
        assert "PLAN_MAX_COST: max_cost takes dollars" in room.refuses()

    def test_a_slip_in_a_variable_that_guards_money(self, room: Room) -> None:
        room.variable("PLAN_MAXCOST", "5")
        assert "did you mean PLAN_MAX_COST" in room.refuses()

    def test_a_folder_a_pipe_and_a_link_to_nothing(self, room: Room) -> None:
        file = room.home / "config" / "planner.toml"
        file.mkdir(parents=True)
        assert "is not a file" in room.refuses()
        file.rmdir()
        os.mkfifo(file)
        assert "is not a file" in room.refuses()
        file.unlink()
        file.symlink_to("nowhere")
        assert "is not a file" in room.refuses()

    def test_what_windows_editors_write(self, room: Room) -> None:
        room.user('\ufefftarget = "hf"\r\nmax_cost = 1_0.50\r\n')
        assert room.setting("target")["value"] == ["hf"] and room.setting("max_cost")["value"] == 10.5

    def test_commands_that_use_no_setting_do_not_read_it(self, room: Room) -> None:
        room.user("broken\n")
        for arguments in (("gpus",), ("policies",), ("config", "--paths")):
            assert room(*arguments)[0] == 0


class TestFiles:
    def test_a_plan_without_settings_imports_none_of_it(self, tmp_path: Path) -> None:
        code = "import sys; from planner.commands import main; main(['--policy', 'act', '--episodes', '5', '--json'])\n" \
            "print({'tomllib', 'tomli', 'planner.commands.settings'} & set(sys.modules), file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PLAN_HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.stderr.strip() == "set()"

    def test_paths_names_everything_with_its_size(self, room: Room) -> None:
        file = room.user('target = "hf"\n')
        room.own("")
        (room.home / "cache" / "datasets").mkdir(parents=True)
        (room.home / "cache" / "datasets" / "a.json").write_bytes(b"x" * 1000)
        (room.home / "cache" / "datasets" / "b.json").write_bytes(b"x" * 500)
        (room.home / "cache" / "datasets" / "link").symlink_to(file)
        document = room.document("config", "--paths")
        assert document["project"] == str(room.project / "planner.toml")
        found = {Path(one["path"]).name: (one["kind"], one["files"]) for one in document["entries"]}
        assert found == {"planner.toml": ("config", 1), "datasets": ("cache", 3)}
        assert 1500 <= next(one["bytes"] for one in document["entries"] if one["kind"] == "cache") < 1800
        shown = room("config", "--paths")[1]
        assert str(room.home / "state") in shown and " kB      3  datasets" in shown

    def test_clear_removes_caches_and_nothing_else(self, room: Room) -> None:
        kept = [room.user('target = "hf"\n'), room.home / "state" / "runs.json", room.project / "elsewhere"]
        gone = [room.home / "cache" / "prices.json", room.home / "cache" / "datasets" / "a.json"]
        for path in (*kept[1:], *gone):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 600)
        (room.home / "cache" / "link").symlink_to("/")
        code, out, err = room("config", "--clear", "--yes")
        assert code == 0 and "removed 1.2 kB in 3 of 3 entries" in out and str(gone[0]) in err
        assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
        assert list((room.home / "cache").iterdir()) == []
        assert "nothing to remove" in room("config", "--clear")[1]

    def test_clear_asks_and_takes_no_for_an_answer(self, room: Room) -> None:
        file = room.home / "cache" / "prices.json"
        file.parent.mkdir(parents=True)
        file.write_text("x")
        code, _, err = room("config", "--clear")
        assert code == 2 and "--yes" in err and file.exists()
        for answer, code in (("n\n", 8), ("\n", 8), ("y\n", 0)):
            master, slave = pty.openpty()
            os.write(master, answer.encode())
            program = str(Path(sys.executable).with_name("plan"))
            done = subprocess.run(
                [program, "config", "--clear"], stdin=slave, capture_output=True, text=True,
                env={"PATH": os.environ["PATH"], "PLAN_HOME": str(room.home)},
            )  # fmt: skip
            os.close(master)
            os.close(slave)
            assert done.returncode == code, done.stderr
            assert file.exists() == (code == 8) and str(file) in done.stderr

    @pytest.mark.parametrize("arguments", [("--paths", "--clear"), ("--yes",)])
    def test_options_that_make_no_sense_together(self, room: Room, arguments: tuple[str, ...]) -> None:
        assert "--clear" in room.refuses("config", *arguments)

    @pytest.mark.parametrize("columns", [40, 80, 120])
    def test_the_table_keeps_to_the_terminal(self, room: Room, columns: int) -> None:
        room.own('target = ["hf", "modal"]\nattempts = 7\n')
        room.variable("COLUMNS", str(columns))
        out = room("config")[1]
        assert max(len(line) for line in out.splitlines()) <= max(columns, 60) and "\x1b" not in out
        words = " ".join(out.split())
        assert "../planner.toml: target" in words and "which is not taken" in words.replace("not taken: a", "not taken")
