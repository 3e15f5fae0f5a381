"""A mean that forgets: average += momentum * (value - average).

Each new value counts for the share `momentum`, and all that was there before for the rest. Batch norm keeps such
averages of its batches' statistics, to live on when there is no batch.
"""
