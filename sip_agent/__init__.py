"""sip-agent: the self-hosted SIP agent on the receiving end of voice-agent tests."""
