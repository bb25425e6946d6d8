"""Which call through Agora belongs to which run: such a call names none."""

from datetime import timedelta
from typing import Any

import pytest

from sip_agent.platforms.cekura.join import join
from sip_agent.platforms.cekura.model import Run
from tests.platforms.cekura.calls import NOW, record


def call(after_s: int, *, transport: str = "AGORA", ended: bool = True) -> dict[str, Any]:
    """Return the record of a call of 30 seconds."""
    received_at = NOW + timedelta(seconds=after_s)
    ended_at = received_at + timedelta(seconds=30) if ended else None
    given: dict[str, Any] = {"invite_received_at": received_at, "ended_at": ended_at, "transport": transport}
    return record(after_s, run_id=None, result_id=None, **given).to_dict()


def run(number: int, after_s: int | None = None) -> Run:
    """Return a run that was executed then, by Cekura's clock."""
    executed_at = None if after_s is None else NOW + timedelta(hours=3, seconds=after_s)
    return Run(id=number, status="completed", executed_at=executed_at)


def paired(runs: list[Run], calls: list[dict[str, Any]]) -> list[tuple[int, str | None]]:
    """Return the runs with the times of their calls."""
    joined = join(runs, calls, result_id=16870)
    named = [item for item in joined.runs if item.record is not None]
    assert len(calls) == len(named) + len(joined.strangers)
    return [(item.run.id, item.record["invite_received_at"]) for item in named if item.record is not None]


def test_one_run_and_one_call() -> None:
    """They can only belong together."""
    assert [(1, call(5)["invite_received_at"])] == paired([run(1)], [call(5)])


def test_calls_one_after_the_other() -> None:
    """They come in the order in which the runs are executed, whatever the clocks say."""
    calls = [call(0), call(40), call(80)]
    expected = [(1, calls[1]), (2, calls[2]), (3, calls[0])]

    assert [(number, found["invite_received_at"]) for number, found in expected] == paired(
        [run(1, 41), run(2, 82), run(3, 0)], calls
    )


@pytest.mark.parametrize(
    ("runs", "calls"),
    [
        ([run(1, 0), run(2, 40)], [call(0)]),
        ([run(1, 0)], [call(0), call(40)]),
        ([run(1, 0), run(2, 40)], [call(0), call(20)]),
        ([run(1, 0), run(2, 40)], [call(0, ended=False), call(40)]),
        ([run(1), run(2, 40)], [call(0), call(40)]),
        ([run(1, 0), run(2, 0)], [call(0), call(40)]),
        ([run(1, 0)], [call(0, transport="UDP")]),
    ],
)
def test_where_it_is_not_certain_nothing_is_guessed(runs: list[Run], calls: list[dict[str, Any]]) -> None:
    """More calls than runs, or fewer; calls at the same time; a call by SIP, which could have named its run."""
    assert [] == paired(runs, calls)
