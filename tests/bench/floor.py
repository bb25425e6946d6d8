"""The floor: the same engine, bridge and codecs as the agent's, each call connected to itself, no Python on its way.

`python -m tests.bench.floor SIP_PORT FIRST_RTP LAST_RTP CALLS SAMPLE_RATE_HZ` runs until SIGTERM, at most 3 min.
"""

import signal
import sys
import time
from typing import Any

from sip_agent.ua import engine

LONGEST_S = 180.0


def run(sip_port: int, first_rtp: int, last_rtp: int, calls: int, sample_rate_hz: int) -> None:
    """Answer every call and connect it to itself."""
    engine.select("native")
    pj = engine.load()
    live: dict[int, Any] = {}

    class Call(pj.Call):  # type: ignore[name-defined,misc]
        def onCallState(self, _: Any) -> None:  # noqa: N802  (pjsua2's name)
            info = self.getInfo()
            if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
                _say("call.confirmed")
            elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                live.pop(info.id, None)

        def onCallMediaState(self, _: Any) -> None:  # noqa: N802
            sound = self.getAudioMedia(-1)
            sound.startTransmit(sound)

    class Account(pj.Account):  # type: ignore[name-defined,misc]
        def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
            call = live[prm.callId] = Call(self, prm.callId)
            answer = pj.CallOpParam(True)
            answer.statusCode = 200
            call.answer(answer)

    endpoint = pj.Endpoint()
    endpoint.libCreate()
    endpoint.libInit(_library_config(pj, calls, sample_rate_hz))
    transport = pj.TransportConfig()
    transport.port, transport.boundAddress = sip_port, "127.0.0.1"
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
    endpoint.libStart()
    clock = pj.BridgeClock()
    clock.start()
    account, config = Account(), pj.AccountConfig()
    config.idUri = "sip:floor@127.0.0.1"
    media = config.mediaConfig.transportConfig
    media.port, media.portRange, media.boundAddress = first_rtp, last_rtp - first_rtp, "127.0.0.1"
    account.create(config)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    _say("floor.ready")
    try:
        end = time.monotonic() + LONGEST_S
        while time.monotonic() < end:
            endpoint.libHandleEvents(200)
    finally:
        clock.stop()
        live.clear()
        account.shutdown()
        endpoint.libDestroy()


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _library_config(pj: Any, calls: int, sample_rate_hz: int) -> Any:
    config = pj.EpConfig()
    config.logConfig.level = config.logConfig.consoleLevel = 0
    config.uaConfig.maxCalls = calls + 16
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    media = config.medConfig
    media.clockRate = media.sndClockRate = sample_rate_hz
    media.channelCount = 1
    media.audioFramePtime = media.ptime = 20
    media.quality = 4
    media.noVad = True
    media.ecTailLen = 0
    media.maxMediaPorts = 2 * (config.uaConfig.maxCalls + 2)
    return config


if __name__ == "__main__":
    run(*map(int, sys.argv[1:6]))
