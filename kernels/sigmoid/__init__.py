"""The room of sigmoid."""
