"""``python jepsen-like``: break a cluster on purpose, and judge what it did by outside evidence."""

from jepsen_like.cli import main

if __name__ == "__main__":
    main()
