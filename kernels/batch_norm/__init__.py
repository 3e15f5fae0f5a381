"""The room of batch_norm."""
