"""A load on the Placement API: the same fleet, the same calls and the same clients on every server that speaks it."""
