"""Which process this is, and what several of them do together."""
