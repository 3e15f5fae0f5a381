"""Adam: walk downhill with steps whose length does not depend on how steep it is.

m and v are moving means of the gradient and of its square. theta -= lr * m_hat / (sqrt(v_hat) + eps) then moves each
parameter by at most about lr, in full where its gradients agree and by little where they contradict each other. m and v
start at 0; the hats divide by 1 - beta^step to undo the pull towards that start (Kingma and Ba 2015, algorithm 1).
"""
