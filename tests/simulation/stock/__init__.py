"""Stock PySyncObj in the simulated world: the control of the simulator.

Nothing of the package is edited.  What its modules see of the machine (`open`, `os`, `mmap`,
`socket`, `select`, time, chance) is replaced by the simulated machine's; see `library`.
"""
