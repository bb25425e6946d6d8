"""Sound as numpy arrays: frames, levels, tones, DTMF, resampling, audio files and estimated quality.

Pure functions and small values; nothing in here knows SIP, threads, the event loop, a log or a clock.
"""
