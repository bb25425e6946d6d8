"""The SIP user agent: the only room that imports pjsua2, and the only thread that touches it."""
