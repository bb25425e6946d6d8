"""sip-agent: the self-hosted SIP agent on the receiving end of voice-agent tests."""

import os

# Before numpy is loaded: the matrices here are too small to share, and BLAS threads that wait for work by spinning
# would take a core from the media clock.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
