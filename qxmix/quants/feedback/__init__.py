"""Error feedback: the error of one weight is taken back by those of its row that are still to be rounded."""
