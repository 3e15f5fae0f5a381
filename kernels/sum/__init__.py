"""The room of sum."""
