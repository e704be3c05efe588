"""How speeds are written."""

from matplotlib.ticker import EngFormatter

FLOPS, BYTES = EngFormatter("FLOP/s", places=0), EngFormatter("B/s", places=1)  # 649 TFLOP/s, 4.2 TB/s
