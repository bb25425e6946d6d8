"""The HTTP API: health, metrics, call records, recordings and the calls that go on.

`routes.py` has the table of all routes. A further room adds its lines there, or hands `ApiServer` a longer table.
"""

from sip_agent.api.metrics import CallMetrics
from sip_agent.api.parts import ApiParts, Handler, Problem, Route
from sip_agent.api.routes import ROUTES, describe_routes
from sip_agent.api.server import ApiServer

__all__ = [
    "ROUTES",
    "ApiParts",
    "ApiServer",
    "CallMetrics",
    "Handler",
    "Problem",
    "Route",
    "describe_routes",
]
