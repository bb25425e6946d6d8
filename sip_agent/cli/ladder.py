"""The ladder of a call: its SIP messages, one arrow each, as engineers draw them."""

from datetime import datetime
from typing import Any

from sip_agent.cli.output import console, plain
from sip_agent.status import Direction

WIDTH = 40
"""Columns between the two sides."""


def print_ladder(document: dict[str, Any]) -> None:
    """Print the SIP messages of a call record: the other side on the left, the agent on the right."""
    messages = document["messages"]
    other = "callee" if document["direction"] == Direction.OUTBOUND else "caller"
    began = datetime.fromisoformat(messages[0]["at"])
    title = f"{other} {document['source_address']}"
    console.print(plain(f"{title:<{WIDTH - 3}}agent"), style="bold", soft_wrap=True)
    for message in messages:
        delay_ms = round((datetime.fromisoformat(message["at"]) - began).total_seconds() * 1000)
        words = f" {message['text']} "
        arrow = f"<{words:-^{WIDTH - 1}}" if message["sent"] else f"{words:-^{WIDTH - 1}}>"
        console.print(plain(f"|{arrow}|  {delay_ms / 1000:8.3f} s  CSeq {message['cseq']}"), soft_wrap=True)
