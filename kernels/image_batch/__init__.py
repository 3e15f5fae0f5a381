"""The batch of pictures that a training step sees: batch[n] = images[indices[n]] / 127.5 - 1, some of them mirrored.

The data set stays in its bytes, 0 to 255, a quarter of the memory; only what a step needs becomes float32, between -1
and 1, the range of the generator's tanh. A mirrored cat is another cat.
"""
