"""A mean that forgets: average += momentum * (value - average).

Each new value counts for the share `momentum`, and what was there before for a little less than it did. Batch norm keeps
such averages of its batches' statistics, to live on when there is no batch.
"""
