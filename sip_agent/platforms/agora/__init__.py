"""Agora: the tokens and sessions that Cekura asks for, and the agent's place in the channel."""
