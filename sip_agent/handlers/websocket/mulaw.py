"""What the telephone providers' dialects share: sound in JSON, numbered messages, no word for speech; mostly mu-law."""

from binascii import b2a_base64

from media.frames import Samples
from media.g711 import decode_mulaw, encode_mulaw


class MulawDialect:
    """The part of a `Dialect` that does not depend on the provider: mu-law at 8 kHz, unless it is overridden."""

    sample_rate_hz = 8000
    bytes_per_sample = 1
    tells_speech = False

    def __init__(self) -> None:
        self._sequence = 0
        self._chunk = 0

    def speech(self, at_ms: int, *, started: bool) -> None:
        """See `Dialect`: none of these providers tells of speech."""

    def decode(self, payload: bytes) -> Samples:
        """See `Dialect`."""
        return decode_mulaw(payload)

    def encode(self, samples: Samples) -> bytes:
        """Return sound of the caller as the payload of a message."""
        return encode_mulaw(samples)

    def _next_payload(self, samples: Samples) -> str:
        """Return the sound of the next media message in base64, and count that message."""
        self._sequence += 1
        self._chunk += 1
        return b2a_base64(self.encode(samples), newline=False).decode("ascii")
