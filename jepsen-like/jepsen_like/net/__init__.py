"""Where peers live and how they reach each other: the backends, and what each of them can break.

``plain``
    loopback; nothing of the network can be broken.
``proxy``
    loopback, each peer behind proxies of TCP connections; connections can be cut and delayed.
``netns``
    a network namespace for each machine, and a switch of our own between them; packets can be
    dropped, refused, lost, delayed, doubled and put out of order, each direction by itself.
"""
