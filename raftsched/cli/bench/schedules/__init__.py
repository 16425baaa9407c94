"""``raftsched bench schedules``: does every slot start once, and how late?"""
