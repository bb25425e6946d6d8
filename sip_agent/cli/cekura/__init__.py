"""`sip-agent cekura`: runs at Cekura, one module per command."""

import typer

from sip_agent.cli.cekura import outbound, pipecat, push, run, simulate, wait

app = typer.Typer(name="cekura", help="Start runs at Cekura, join them to the calls, judge them.", no_args_is_help=True)
app.command("run")(run.run)
app.command("wait")(wait.wait)
app.command("push")(push.push)
app.command("simulate")(simulate.simulate)
app.command("pipecat")(pipecat.pipecat)
app.command("outbound")(outbound.outbound)
