"""The room of tanh."""
