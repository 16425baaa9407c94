"""Clients of the public HTTP API; they import nothing internal."""

from raftsched.client.sync import BatchResult, Client, Task

__all__ = ["BatchResult", "Client", "Task"]
