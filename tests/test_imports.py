"""What a plan must not import: heavy modules are the difference between a tool and a wait."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "planner"

#: rooms from the top down; a module imports only from its own layer or one below (docs/architecture.md)
LAYERS = (
    ("commands",),
    ("show",),
    ("launch", "follow", "reconcile"),
    ("recipes",),
    ("api",),
    ("pricebook", "pricefeed"),
    ("backtest", "published", "calibrate", "trainlog", "ownruns"),
    ("choose",),
    ("shortlist",),
    ("advice",),
    ("offers",),
    ("owned",),
    ("estimate",),
    ("bill", "bounds", "electricity"),
    ("speed", "memory"),
    ("prices", "evidence"),
    ("overlay", "targets"),
    ("work",),
    ("profiles", "plans"),
    ("resolve", "hub"),
    ("variants",),
    ("runs",),
    ("diagnose",),
    ("machine",),
    ("datasets", "pasted", "job", "request", "doctor", "trainer"),
    ("metadata", "facts"),
    ("workload", "catalogue"),
    ("build",),
    ("entries", "compiled", "feedfile"),
    ("feeds", "fields", "yamlfile", "devices", "config", "kept"),
    ("records", "units", "errors", "folders", "deadline"),
)


@pytest.mark.parametrize(
    "arguments",
    [("--policy", "smolvla", "--episodes", "50", "--json"), ("--policy", "smolvla", "--episodes", "50"), ("policies",), ("gpus", "--json")],
)
def test_provider_sdks_and_heavy_modules_are_not_imported(arguments: tuple[str, ...]) -> None:
    code = "import sys; from planner.commands import main; sys.argv = ['plan', *sys.argv[1:]]\n" \
        "try: main()\nexcept SystemExit: pass\n" \
        "print('MODULES', *sorted(name.split('.')[0] for name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    modules = set(done.stderr.rsplit("MODULES", 1)[1].split())
    heavy = {"huggingface_hub", "modal", "torch", "lerobot", "pydantic", "numpy", "httpx", "httpx2", "asyncio", "jsonschema", "yaml"}
    assert "planner" in modules and "typer" in modules
    assert not modules & heavy


def test_cached_prices_need_no_sdk(tmp_path: Path) -> None:
    code = "from planner import pricefeed; from planner.records import PriceList, Quote; from planner.request import Search, Workload\n" \
        "from decimal import Decimal; import planner, sys\n" \
        "pricefeed.keep(PriceList('hf', 'hf_jobs_hardware', (Quote('l4x1', Decimal('9')),), as_of='2030-01-01T00:00:00Z'))\n" \
        "plan = planner.plan(Workload(policy='act', episodes=5), Search(targets=('hf',)))\n" \
        "assert plan.estimate('hf:l4x1').offer.usd_per_hour == 9\n" \
        "print(sorted({'huggingface_hub', 'modal', 'httpx2', 'asyncio', 'planner.targets.hf'} & set(sys.modules)))"
    home = os.environ | {"PLAN_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=home)
    assert done.stdout.strip() == "[]"


def test_json_needs_no_rich() -> None:
    code = "import sys; from planner.commands import main; sys.argv = ['plan', '--policy', 'act', '--episodes', '5', '--json']\n" \
        "try: main()\nexcept SystemExit: pass\n" \
        "print('rich' in sys.modules, file=sys.stderr)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.strip() == "False"


def _imports(path: Path) -> set[str]:
    """Modules of ours that a file imports when it is loaded (not those inside functions, nor for types alone)."""
    found = set()

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "planner":
                parts = node.module.split(".")
                found.update([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
            elif isinstance(node, ast.Import):
                found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("planner."))
            elif isinstance(node, (ast.Try, ast.With)) or (isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)):
                visit(node.body)

    visit(ast.parse(path.read_text(encoding="utf-8")).body)
    return found


def test_imports_point_downward_only() -> None:
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0].startswith("__"):
            continue
        assert parts[0] in level, f"{parts[0]} has no place in LAYERS"
        wrong += [f"{'/'.join(parts)} imports {name}" for name in _imports(path) if name in level and level[name] < level[parts[0]]]
    assert not wrong


@pytest.mark.parametrize(("room", "other"), [("targets", "targets"), ("recipes", "targets"), ("targets", "recipes"), ("show", "targets")])
def test_rooms_that_must_not_know_each_other(room: str, other: str) -> None:
    for path in (PACKAGE / room).glob("*.py"):
        text = path.read_text(encoding="utf-8")
        own = f"_{path.stem.strip('_').split('_')[0]}"  # the parts of a place begin with _ and its name; _guard is for all
        for name in (p.stem for p in (PACKAGE / other).glob("*.py") if p.stem not in ("__init__", "base", "_guard", path.stem)):
            if room == other and (name.startswith(own) or own == f"_{name}"):
                continue
            assert f"planner.{other}.{name}" not in text, f"{path.name} imports {name}"
            assert f"from planner.{other} import {name}" not in text, f"{path.name} imports {name}"
