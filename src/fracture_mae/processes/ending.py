"""The signals by which others end this process."""

import signal


def ending_signals() -> list[signal.Signals]:
    """SIGTERM, and what a terminal sends that is closed, unless that is to be outlived, as under `nohup`; Windows has none."""
    hangup = getattr(signal, "SIGHUP", None)
    outlived = hangup is None or signal.getsignal(hangup) == signal.SIG_IGN
    return [signal.SIGTERM, *([] if outlived else [hangup])]
