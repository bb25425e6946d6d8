"""`sip-agent cekura wait`: take up runs that were started before."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated

import typer

from sip_agent.cli.cekura.following import Following, conclude, follow, follow_options, new_client, record_source, say
from sip_agent.cli.interrupts import Interrupted, Interrupts, run_loop
from sip_agent.cli.options import with_options


@with_options(following=follow_options)
def wait(
    result_id: Annotated[int, typer.Argument(min=1, help="Id of the result, as `cekura run` and Cekura show it.")],
    *,
    following: Following,
) -> None:
    """Wait for runs that were started before, join them to the calls that arrived, and judge them.

    Ctrl-C leaves the runs alone: they can be taken up again.

    Example: sip-agent cekura wait 16870 --junit cekura.xml
    """
    raise typer.Exit(run_loop(_wait(result_id, following)))


async def _wait(result_id: int, following: Following) -> int:
    from sip_agent.platforms.cekura.runs import begun_at

    now = datetime.now(UTC)
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(new_client(following.settings))
        records = await record_source(following, resources)
        interrupts = resources.enter_context(Interrupts())
        try:
            result = await interrupts.during(client.result(result_id))
            followed = await interrupts.during(follow(client, result, following, records, begun_at(result, now)))
        except Interrupted:
            say(f"the runs go on; take them up again: {following.wait_command(result_id)}")
            raise
        return conclude(followed, following, result.created_at or now)
