"""Random numbers that are a function of their place: word e % 4 of cipher(key, counter + e // 4) for element e.

The cipher, Philox 4x32-10, scrambles a counter so thoroughly that its output passes TestU01's BigCrush (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"); a seed is its key. No state passes from one number to the next, so
thousands of threads draw at once, each its own element, and get the same bits on every device; `philox_advance` then
moves the counter past what was drawn. A word w becomes u = (w + 1/2) / 2^32, uniform in (0, 1); the quantile function
makes u normal.
"""
