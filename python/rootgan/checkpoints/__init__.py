"""Reading checkpoints of other programs: every format becomes a `Checkpoint`, and nothing in a file is ever executed."""
