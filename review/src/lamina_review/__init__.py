"""Reviews a Python tree against the ten pillars of CWE-1000, the research view of the Common Weakness Enumeration."""
