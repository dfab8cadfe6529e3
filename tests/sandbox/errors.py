"""What can go wrong with the sandbox itself, as opposed to the thing under test."""


class SandboxError(Exception):
    """The sandbox could not do what was asked; the message says what to do about it."""


class ToolMissingError(SandboxError):
    """A program that must be on the machine is not there, or is too old."""


class NotReadyError(SandboxError):
    """Something did not become true in time; the message says what was seen last."""
