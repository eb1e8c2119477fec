"""One real agent run on this machine, seen end to end: `make demo`."""
