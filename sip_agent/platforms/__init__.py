"""The test platforms: their HTTP APIs, the runs started there, and the evidence sent back."""
