"""Speech made of text, and text made of speech, by engines that are found by entry point."""

from sip_agent.speech.engines import Recognizer, Synthesizer
from sip_agent.speech.services import Speech

__all__ = ["Recognizer", "Speech", "Synthesizer"]
