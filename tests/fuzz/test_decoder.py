"""The fuzzer that atheris drives names what exists and instruments what it means to, which is seen without atheris."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.test_layers import imported, is_module

pytestmark = pytest.mark.source

TREE = ast.parse(Path(__file__).with_name("decoder.py").read_text(encoding="utf-8"))


def hook() -> ast.With:
    """The statement under which modules are imported with counters in them."""
    found = [node for node in TREE.body if isinstance(node, ast.With) and "instrument_imports" in ast.unparse(node.items[0])]
    (statement,) = found
    return statement


def instrumented() -> list[str]:
    """The modules that the hook is told to put counters into."""
    call = hook().items[0].context_expr
    assert isinstance(call, ast.Call)
    (include,) = (keyword.value for keyword in call.keywords if keyword.arg == "include")
    found = ast.literal_eval(include)
    assert isinstance(found, list)
    return found


def reached(names: set[str]) -> set[str]:
    """Modules of the checkout, and what they import of it, and so on."""
    found: set[str] = set()
    waiting = {name for name in names if is_module(name)}
    while waiting:
        name = waiting.pop()
        found.add(name)
        path = Path(__file__).parents[2].joinpath(*name.split(".")).with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
        waiting |= {other for _, other in imported(tree) if is_module(other)} - found
    return found


def test_the_fuzzer_finds_everything_that_it_imports() -> None:
    here = {name for _, name in imported(TREE) if name.partition(".")[0] in ("protocol", "tests")}
    assert {"protocol.codec", "protocol.connection", "tests.fuzz.invariants"} <= here
    modules = {name.rpartition(".")[2]: importlib.import_module(name) for name in here}
    for node in ast.walk(TREE):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), ast.unparse(node)


def test_the_fuzzer_has_counters_in_all_that_a_strangers_bytes_reach_first() -> None:
    assert {"protocol.codec", "protocol.connection", "protocol.scan"} <= set(instrumented())
    under = {name for _, name in imported(hook())}
    assert set(instrumented()) <= reached(under), "what nobody imports under the hook gets no counters"
    earlier = ast.Module([node for node in TREE.body if node.lineno < hook().lineno], [])
    before = reached({name for _, name in imported(earlier)})
    assert before.isdisjoint(instrumented()), "what was imported before the hook gets none either"
