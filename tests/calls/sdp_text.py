"""What a peer reads in an SDP."""

import re


def audio_address(sdp: str) -> tuple[str, int]:
    """Return where RTP for the first audio stream goes."""
    host = re.search(r"^c=IN IP[46] (\S+)", sdp, re.MULTILINE)
    port = re.search(r"^m=audio (\d+)", sdp, re.MULTILINE)
    assert host is not None, sdp
    assert port is not None, sdp
    return host[1], int(port[1])


def direction(sdp: str) -> str:
    """Return the direction attribute of an SDP, `sendrecv` if it has none (RFC 3264 §5.1)."""
    found = re.search(r"^a=(sendrecv|sendonly|recvonly|inactive)\s*$", sdp, re.MULTILINE)
    return found[1] if found else "sendrecv"
