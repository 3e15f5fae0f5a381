"""The room of conv2d."""
