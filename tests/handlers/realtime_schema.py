"""The published events of the Realtime protocol, as the pydantic models of the package `openai` have them."""

from collections.abc import Mapping
from typing import Any, get_args

from openai.types.beta.realtime.realtime_client_event import RealtimeClientEvent as BetaClientEvent
from openai.types.beta.realtime.realtime_server_event import RealtimeServerEvent as BetaServerEvent
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel

Models = Mapping[str, type[BaseModel]]


def _models(union: Any) -> Models:
    members = get_args(get_args(union)[0])
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in members}


CLIENT_EVENTS: Mapping[str, Models] = {"ga": _models(RealtimeClientEvent), "beta": _models(BetaClientEvent)}
SERVER_EVENTS: Mapping[str, Models] = {"ga": _models(RealtimeServerEvent), "beta": _models(BetaServerEvent)}


def check(models: Models, event: Mapping[str, Any]) -> None:
    """Fail unless an event is one of the models, with no field that is not in the schema."""
    assert event["type"] in models, f"{event['type']} is no event of the schema"
    _check_fields(models[event["type"]].model_validate(event, strict=True), event["type"])


def _check_fields(value: Any, place: str) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{place}: {sorted(value.model_extra or ())} are not in the schema"
        for name in type(value).model_fields:
            _check_fields(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, list):
        for item in value:
            _check_fields(item, place)
