"""The room of adam."""
