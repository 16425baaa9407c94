"""Every rule of raftsched, as functions without I/O.

Nothing here reads a clock, draws a random number, opens a file or logs.  Time, ids and
randomness arrive as arguments; effects leave as values.  ``tests/quality`` holds the rule.
"""
