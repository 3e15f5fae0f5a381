"""The logistic function: y = 1 / (1 + exp(-x)), between 0 and 1.

It turns a logit, any real number, into the probability whose log odds it is: 0 becomes a half. The discriminator's
opinion of a picture, D(x), is read this way. Its derivative is y * (1 - y).
"""
