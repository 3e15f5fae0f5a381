"""The room of bce_with_logits."""
