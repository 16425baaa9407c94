"""``raftsched bench beside``: ours and what a user would pick instead, in turns in one run.

`programs` are scripts that the other queues' own interpreter runs; nothing here imports them.
"""
