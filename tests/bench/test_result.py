"""What is published: medians, the JSON object, the table."""

from __future__ import annotations

import collections
import pathlib

from bench import machine, result, show

#: The keys that whoever compares figures may rely on.
KEYS = (
    "workload params durable seconds rate_per_s p50_ms p99_ms p999_ms server_cpu_s server_rss_bytes bytes_per_message errors"
    " metrics machine versions commit date url"
).split()


def figures(rate: float, **errors: int) -> result.Figures:
    return result.Figures(rate, 10.0, rate / 10, None, None, errors=collections.Counter(errors), metrics={"x": rate, "y": None})


def published(*runs: result.Figures) -> result.Result:
    medians = result.medians(runs)
    return result.Result("direct", "pairs", "messages", "15,000/s", "20,000/s", {"pairs": 50, "runs": len(runs)}, True, medians)


def of_server(*, is_here: bool) -> result.Result:
    """Of one that ran already."""
    texts = ("direct", "pairs", "messages", "15,000/s", "20,000/s")
    return result.Result(*texts, {"runs": 1}, None, figures(10.0), "ws://chat.example/ws", is_here)


def test_every_figure_is_the_median_of_the_runs_and_errors_add_up() -> None:
    found = result.medians([figures(30.0, lost=1), figures(10.0), figures(20.0, lost=2, late=1)])
    assert (found.rate_per_s, found.p50_ms, found.p99_ms) == (20.0, 2.0, None)
    assert found.errors == {"lost": 3, "late": 1}
    assert found.metrics == {"x": 20.0, "y": None, "lowest_rate_per_s": 10.0, "highest_rate_per_s": 30.0}


def test_the_object_has_the_documented_keys_in_order() -> None:
    assert list(published(figures(10.0)).as_json()) == KEYS


def test_a_node_of_this_checkout_is_published_with_its_machine_and_commit() -> None:
    found = published(figures(10.0)).as_json()
    assert (found["url"], found["durable"], found["commit"]) == (None, True, machine.commit())
    assert found["machine"] == machine.describe()
    assert found["versions"] == machine.versions()


def test_what_is_not_known_of_another_server_is_null_and_never_this_machines() -> None:
    found = of_server(is_here=False).as_json()
    assert found["url"] == "ws://chat.example/ws"
    assert [found[key] for key in ("durable", "machine", "versions", "commit")] == [None] * 4
    here = of_server(is_here=True).as_json()
    assert [here[key] for key in ("machine", "versions", "commit")] == [machine.describe(), None, None]
    assert "durability unknown" in show.text(of_server(is_here=False))


def test_errors_are_counted_and_named_in_the_object() -> None:
    found = published(figures(10.0, lost=2)).as_json()
    assert found["errors"] == 2
    assert found["metrics"]["errors: lost"] == 2


def test_a_result_with_errors_says_so_and_shows_no_figure_in_the_table() -> None:
    found = published(figures(10.0, lost=2))
    assert "NOT A RESULT" in show.text(found)
    row = next(line for line in show.table([found]).splitlines() if line.startswith("| `direct`"))
    assert "2 x lost" in row
    assert found.headline not in row


def test_the_table_stands_the_durability_beside_every_figure() -> None:
    row = next(line for line in show.table([published(figures(10.0))]).splitlines() if line.startswith("| `direct`"))
    assert row == "| `direct` | pairs (durable) | 20,000/s | 15,000/s |"


def test_the_table_goes_between_the_marks_and_nothing_else_of_the_readme_changes(tmp_path: pathlib.Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{show.BEGIN}\nold figures\n{show.END}\nafter\n")
    assert show.fill(readme, [published(figures(10.0))])
    once = readme.read_text()
    assert once.startswith(f"before\n{show.BEGIN}\n| workload |")
    assert once.endswith(f"\n{show.END}\nafter\n")
    assert "old figures" not in once
    assert show.fill(readme, [published(figures(10.0))])
    assert readme.read_text() == once


def test_a_readme_without_marks_is_left_alone(tmp_path: pathlib.Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("words\n")
    assert not show.fill(readme, [published(figures(10.0))])
    assert readme.read_text() == "words\n"


def test_counts_show_three_digits_that_mean_something() -> None:
    assert [show.count(value) for value in (20_519.4, 123.4, 4_709_843, 7, None)] == [
        "20,500",
        "123",
        "4,710,000",
        "7",
        "not seen",
    ]
