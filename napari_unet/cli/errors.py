"""What the commands complain with."""


class CommandError(Exception):
    """A wish that cannot be met; the message says why."""
