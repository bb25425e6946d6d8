"""A double of Agora's server SDK."""
