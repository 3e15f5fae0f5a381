"""Binary cross-entropy: how surprised a judge is who gave probability sigmoid(l) to what turned out to be t.

loss = -t * log(sigmoid(l)) - (1 - t) * log(1 - sigmoid(l)), averaged over the judgements; t is 1 for a real picture (or
a little less, to keep the discriminator from being too sure) and 0 for a made one. Computed from the logit l itself, as
max(l, 0) - l * t + log(1 + exp(-|l|)), it is exact for logits of any size, and its gradient is simply (sigmoid(l) - t)
/ n.
"""
