"""The engine: pure core (ticks, state, reduce, effects) and the shell that waits (clock, mailbox, loop, attempts)."""
