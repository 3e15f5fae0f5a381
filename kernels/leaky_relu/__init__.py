"""The room of leaky_relu."""
