"""A disk of our own for each machine: its power can go, it can be full, slow, or fail.

``durable``
    files and directories that know what of them is durable.
``ills``
    what is wrong with a disk just now, and how often that was felt.
``tree``
    the disk, as the kernel asks for it.
``powerfs``
    the program: mounts it (FUSE, without a library) and takes orders.
"""
