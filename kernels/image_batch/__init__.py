"""The room of image_batch."""
