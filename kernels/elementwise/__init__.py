"""The room of elementwise."""
