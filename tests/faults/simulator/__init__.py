"""The crash simulator: random schedules of operations and faults on one thread and on virtual time, each replayed by its seed."""
