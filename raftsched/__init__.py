"""raftsched: a task scheduler that is highly available on three to five machines."""

__version__ = "0.1.0"
