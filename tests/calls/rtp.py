"""RTP of a peer: what it sends and what it hears, PCMA only, on a thread of its own."""

import io
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import soundfile

FRAME_SAMPLES = 160
CLOCK_RATE_HZ = 8000
SSRC = 0x51504147


def encode_pcma(samples: npt.NDArray[np.int16]) -> bytes:
    """Return samples as A-law."""
    out = io.BytesIO()
    soundfile.write(out, samples, CLOCK_RATE_HZ, format="RAW", subtype="ALAW")
    return out.getvalue()


def decode_pcma(data: bytes) -> npt.NDArray[np.int16]:
    """Return A-law as samples."""
    samples: npt.NDArray[np.int16]
    samples, _ = soundfile.read(
        io.BytesIO(data), samplerate=CLOCK_RATE_HZ, channels=1, format="RAW", subtype="ALAW", dtype="int16"
    )
    return samples


def tone(hz: float, seconds: float, *, rate_hz: int = CLOCK_RATE_HZ, level: float = 0.3) -> npt.NDArray[np.int16]:
    """Return a sine."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.round(32767 * level * np.sin(2 * np.pi * hz * times)).astype(np.int16)


def strongest_hz(samples: npt.NDArray[np.int16], rate_hz: int) -> float:
    """Return the frequency with the most energy."""
    spectrum = np.abs(np.fft.rfft(samples.astype(float) * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One received RTP packet."""

    source: tuple[str, int]
    payload_type: int
    sequence: int
    payload: bytes
    arrived_s: float


class RtpPeer:
    """Sends a sound over and over to where it is told, and keeps what it receives."""

    def __init__(self, samples: npt.NDArray[np.int16] | None = None, host: str = "127.0.0.1") -> None:
        sound = tone(1000, 1.0) if samples is None else samples
        self._payload = encode_pcma(sound)
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(0.01)
        self.port: int = self._socket.getsockname()[1]
        self.packets: list[Packet] = []
        self.sent = 0
        self._remote: tuple[str, int] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def send_to(self, remote: tuple[str, int] | None) -> None:
        """Send there from now on; None falls silent."""
        self._remote = remote

    def heard(self) -> npt.NDArray[np.int16]:
        """Return the sound received so far."""
        return decode_pcma(b"".join(packet.payload for packet in list(self.packets) if packet.payload_type == 8))

    def send_digit(self, digit: str, remote: tuple[str, int]) -> None:
        """Send one telephone-event, its end three times (RFC 4733 §2.5.1.4)."""
        self.release_digit(digit, remote, self.press_digit(digit, remote), 640)

    def press_digit(self, digit: str, remote: tuple[str, int]) -> int:
        """Send the beginning of a telephone-event; returns its timestamp."""
        began = self.sent * FRAME_SAMPLES
        for marker, duration in ((0x80, 160), (0, 320), (0, 480)):
            self._send_event(remote, marker | 101, began, _event(digit, 10, duration))
        return began

    def release_digit(self, digit: str, remote: tuple[str, int], began: int, duration: int) -> None:
        """Send the end of a telephone-event that `press_digit` began."""
        for _ in range(3):
            self._send_event(remote, 101, began, _event(digit, 0x80 | 10, duration))

    def _send_event(self, remote: tuple[str, int], payload_type: int, began: int, event: bytes) -> None:
        self.sent += 1
        self._socket.sendto(self._header(payload_type, began) + event, remote)

    def _run(self) -> None:
        due = time.monotonic()
        position = 0
        while not self._over.is_set():
            self._receive_until(due)
            due += 0.02
            if self._remote is None:
                continue
            frame = self._payload[position : position + FRAME_SAMPLES]
            position = (position + FRAME_SAMPLES) % (len(self._payload) - FRAME_SAMPLES + 1)
            self.sent += 1
            self._socket.sendto(self._header(8, self.sent * FRAME_SAMPLES) + frame, self._remote)

    def _header(self, payload_type: int, timestamp: int) -> bytes:
        return struct.pack("!BBHII", 0x80, payload_type, self.sent & 0xFFFF, timestamp & 0xFFFFFFFF, SSRC)

    def _receive_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data, source = self._socket.recvfrom(2048)
            except TimeoutError:
                return
            except OSError:
                continue
            if len(data) > 12 and not 192 <= data[1] <= 223:
                sequence = int.from_bytes(data[2:4], "big")
                self.packets.append(
                    Packet(
                        source=source[:2],
                        payload_type=data[1] & 0x7F,
                        sequence=sequence,
                        payload=data[12:],
                        arrived_s=time.monotonic(),
                    )
                )


def _event(digit: str, end_and_volume: int, duration: int) -> bytes:
    return struct.pack("!BBH", "0123456789*#ABCD".index(digit), end_and_volume, duration)
