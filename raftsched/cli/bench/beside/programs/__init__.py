"""Scripts for the interpreter that has Celery, Dramatiq and Huey.  They import nothing of ours.

Each of the three has the functions that `drive` calls: ``submit()`` makes one task, ``kept()`` says
how many results are kept, ``forget()`` drops them.  ``BENCH_REDIS`` is the server's address.
"""
