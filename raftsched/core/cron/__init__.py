"""When a schedule is due: pure arithmetic on instants, called by the leader and by previews.

    timing      the row: what a user may ask
    parse       texts into that row, or a sentence that helps
    expression  one cron expression: its wall-clock times
    zones       time zones, from the ``tzdata`` package alone
    places      wall-clock times to instants: gaps and folds
    excluded    days without slots
    slots       the instants: ``following``, ``between``, ``last_between``
    preview     the same with all that a reader wants to see of each
    english     the same in words

Nothing here runs in ``apply``: time zone data and with it the answers change with releases of
``tzdata``.  Nothing here asks the clock: "now" is an argument.
"""
