"""The observer of sound: the SDK's interface, of its methods the one that matters here."""

from typing import Any


class IAudioFrameObserver:
    """As in the SDK."""

    def on_playback_audio_frame_before_mixing(  # noqa: PLR0917  (as in the SDK)
        self,
        agora_local_user: Any,
        channelId: str,  # noqa: N803
        uid: str,
        frame: Any,
        vad_result_state: int,
        vad_result_bytearray: Any,
    ) -> int:
        """As in the SDK."""
        del agora_local_user, channelId, uid, frame, vad_result_state, vad_result_bytearray
        return 1
