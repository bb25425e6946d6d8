"""Who ends the calls of runs that are no longer followed."""

import pytest

from sip_agent.cli.cekura.following import follow_or_end
from sip_agent.cli.interrupts import Interrupted
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.join import join
from sip_agent.platforms.cekura.model import Result
from sip_agent.platforms.cekura.runs import Followed
from sip_agent.platforms.errors import PlatformError
from tests.platforms.cekura.stand_in import END_CALLS, KEY, CekuraStandIn

RESULT = Result(id=16870)


async def ended(cekura: CekuraStandIn, outcome: bool | Exception, *, held_here: bool) -> int:
    """Follow runs to an outcome: whether that timed out, or what was raised; return how often calls were ended."""
    joined = join((), [], result_id=RESULT.id)

    async def work() -> Followed:
        if isinstance(outcome, Exception):
            raise outcome
        return Followed(result=RESULT, joined=joined, joinable=True, timed_out=outcome)

    async with CekuraClient(cekura.url, KEY) as client:
        following = follow_or_end(
            client, RESULT.id, work(), wait_command="sip-agent cekura wait 16870", held_here=held_here
        )
        if isinstance(outcome, Exception):
            with pytest.raises(type(outcome)):
                await following
        else:
            assert outcome is (await following).timed_out
    return cekura.requests[END_CALLS]


@pytest.mark.parametrize("held_here", [True, False])
async def test_what_is_over_needs_no_ending(cekura: CekuraStandIn, *, held_here: bool) -> None:
    """Runs that were followed to their end have no calls left."""
    assert 0 == await ended(cekura, outcome=False, held_here=held_here)


@pytest.mark.parametrize("held_here", [True, False])
async def test_interrupted(cekura: CekuraStandIn, *, held_here: bool) -> None:
    """Ctrl-C ends the calls, wherever they are held."""
    assert 1 == await ended(cekura, Interrupted(), held_here=held_here)


@pytest.mark.parametrize("outcome", [True, PlatformError("Cekura is gone")])
async def test_given_up(cekura: CekuraStandIn, outcome: bool | Exception) -> None:
    """A wait that fails or times out ends the calls that are held here; those of an agent elsewhere go on."""
    assert 0 == await ended(cekura, outcome, held_here=False)
    assert 1 == await ended(cekura, outcome, held_here=True)
