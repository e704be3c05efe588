"""Whether intervals, probabilities and promises hold what they say, on simulated X-rays of which the truth is known."""
