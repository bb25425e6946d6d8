"""Send a pure tone."""

from media.frames import samples_per_frame
from media.tones import ToneGenerator
from sip_agent.call import Call


class ToneHandler:
    """Send a tone of `hz`, for `seconds` if given: easy to hear, easy to measure."""

    def __init__(self, hz: float = 440, seconds: float = 0, level_dbov: float = -15) -> None:
        if not 20 <= hz <= 20_000:
            raise ValueError(f"hz is from 20 to 20000, not {hz}")
        if seconds < 0:
            raise ValueError(f"seconds is not negative: {seconds}")
        if not -60 <= level_dbov <= -4:
            raise ValueError(f"level_dbov is from -60 to -4 (a sine cannot be louder than -3), not {level_dbov}")
        self._hz = hz
        self._seconds = seconds
        self._level_dbov = level_dbov

    async def handle(self, call: Call) -> None:
        """Answer and send the tone."""
        await call.answer()
        tone = ToneGenerator(self._hz, call.sample_rate_hz, level_dbov=self._level_dbov)
        frame_samples = samples_per_frame(call.sample_rate_hz)
        frames_left = int(self._seconds * 50) if self._seconds else -1
        while frames_left:
            await call.send(tone.next(frame_samples))
            frames_left -= 1
