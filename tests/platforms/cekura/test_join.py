"""Which call belongs to which run."""

from datetime import timedelta

import pytest

from sip_agent.platforms.cekura.join import is_complete, join
from sip_agent.platforms.cekura.model import Run
from sip_agent.record import CallRecord
from sip_agent.status import Direction
from tests.platforms.cekura.calls import NOW, record, refused

DONE = Run(id=34625, status="completed", success=True)
OTHER = Run(id=34626, status="failed")


def test_by_run_id() -> None:
    """A call belongs to the run that it names; a run over without one never got its call."""
    ours = record().to_dict()
    joined = join([OTHER, DONE], [ours], result_id=16870)

    assert [(34625, ours), (34626, None)] == [(run.run.id, run.record) for run in joined.runs]
    assert [34626] == [run.run.id for run in joined.never_arrived]
    assert () == joined.strangers


def test_a_run_that_goes_on_may_still_get_its_call() -> None:
    """Only what is over has missed it."""
    joined = join([Run(id=1, status="in_queue")], [], result_id=16870)

    assert () == joined.never_arrived


def test_several_calls_of_one_run() -> None:
    """The answered one counts, else the last; none is lost."""
    first, answered, last = (item.to_dict() for item in (refused(1), record(2), refused(3)))

    assert answered == join([DONE], [first, answered, last], result_id=16870).runs[0].record
    assert last == join([DONE], [first, last], result_id=16870).runs[0].record
    assert (first, answered, last) == join([DONE], [first, answered, last], result_id=16870).runs[0].records


@pytest.mark.parametrize(
    ("call", "stranger"),
    [
        (record(run_id=None, result_id=None), True),
        (record(run_id="99", result_id=None), True),
        (record(run_id="99"), True),
        (record(run_id="not a number", result_id="garbage"), False),
        (record(run_id="not a number", result_id=""), True),
        (record(run_id="99", result_id="16871"), False),
        (record(run_id=None, result_id=None, direction=Direction.OUTBOUND), False),
    ],
)
def test_strangers(call: CallRecord, stranger: bool) -> None:
    """A call that names no run of ours is shown, unless it names another result, or is one that we placed."""
    assert stranger is bool(join([DONE], [call.to_dict()], result_id=16870).strangers)


def test_strangers_of_later_times() -> None:
    """What came in after a result was over has nothing to do with it."""
    call = record(5, run_id=None, result_id=None).to_dict()

    assert () == join([DONE], [call], result_id=16870, until=NOW + timedelta(seconds=4)).strangers
    assert (call,) == join([DONE], [call], result_id=16870, until=NOW + timedelta(seconds=6)).strangers


@pytest.mark.parametrize(
    ("call", "complete"),
    [
        (record(), True),
        (refused(), True),
        (record(outcome=None, ended_at=None), False),
        (record(metrics={"error": "not measured yet"}), False),
        (record(metrics={"error": "no recording"}, recording=None), True),
        (record(metrics={"error": "failed"}, recording={"state": "failed"}), True),
    ],
)
def test_complete_records(call: CallRecord, complete: bool) -> None:
    """A record is waited for until the call is over and measured, if it can be."""
    assert complete is is_complete(call.to_dict())
