"""The pjsua2 object of a call, whose callbacks lead to a `Dialog`, and the parameters of its operations."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from sip_agent.ua import engine

if TYPE_CHECKING:
    from sip_agent.ua.dialogs import Dialog

log = structlog.get_logger()
Headers = Sequence[tuple[str, str]]


def call_options(headers: Headers = ()) -> Any:
    """Return pjsua2 parameters for an operation on a call: one audio stream and nothing else, extra header fields."""
    pj = engine.load()
    prm = pj.CallOpParam(True)
    prm.opt.audioCount, prm.opt.videoCount = 1, 0
    if engine.is_native():
        prm.opt.textCount = 0  # real-time text: its thread would hold up the end of each call by 300 ms
    fields = pj.SipHeaderVector()
    for name, value in headers:
        field = pj.SipHeader()
        field.hName, field.hValue = name, value
        fields.append(field)
    prm.txOption.headers = fields
    return prm


@functools.cache
def pj_call_class() -> type:  # noqa: C901  (one short guard per callback)
    """Return the pjsua2 call class whose callbacks lead to a `Dialog`; every callback is guarded."""
    pj = engine.load()

    class PjCall(pj.Call):  # type: ignore[name-defined,misc]
        """The pjsua2 object of one call; an exception in a callback would end the process."""

        def __init__(self, dialog: "Dialog", account: Any, call_id: int) -> None:
            super().__init__(account, call_id)
            self._dialog: Dialog | None = dialog

        def _guarded(self, callback: Callable[..., None], *arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception:
                log.exception("dialog.callback_failed", callback=callback.__name__)

        def onCallState(self, prm: Any) -> None:
            if self._dialog is not None:
                self._guarded(self._dialog.on_state, prm)

        def onCallTsxState(self, prm: Any) -> None:
            if self._dialog is not None:
                self._guarded(self._dialog.on_transaction, prm)

        def onCreateMediaTransport(self, prm: Any) -> None:
            if self._dialog is not None:
                self._guarded(self._dialog.on_media_transport, prm)

        def onCallMediaState(self, prm: Any) -> None:  # noqa: ARG002
            if self._dialog is not None:
                self._guarded(self._dialog.on_media_state)

        def onDtmfEvent(self, prm: Any) -> None:
            if self._dialog is not None:
                self._guarded(self._dialog.on_dtmf, prm)

        def onCallTransferStatus(self, prm: Any) -> None:
            if self._dialog is not None:
                self._guarded(self._dialog.on_transfer_status, prm)

        def onStreamDestroyed(self, prm: Any) -> None:
            if self._dialog is not None:
                self._guarded(self._dialog.on_stream_destroyed, prm.streamIdx)

        def onCallTransferRequest(self, prm: Any) -> None:
            prm.statusCode = pj.PJSIP_SC_DECLINE  # whom to call is not for the caller to say

        def onCallReplaceRequest(self, prm: Any) -> None:
            prm.statusCode = pj.PJSIP_SC_DECLINE  # nor whose call it takes over

        def release(self) -> None:
            """Cut the tie to the dialog, so that this object goes with its last reference."""
            self._dialog = None

    return PjCall
