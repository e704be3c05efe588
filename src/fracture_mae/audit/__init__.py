"""How honest a data set is: copies, leakage, shortcuts, and what a leak is worth."""
