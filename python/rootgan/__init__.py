"""The parts of rootgan that need Python's torch: reading and writing checkpoints of other programs, and networks."""
