"""What Polyveil refuses, and what helps."""

from __future__ import annotations


class Error(Exception):
    """Something is refused or fails: what was needed, what was had, what helps.

    Attributes
    ----------
    remedy : str or None
        How it is done with this package, where it knows more than the words of the error.
    """

    def __init__(self, what: str, remedy: str | None = None):
        super().__init__(what)
        self.remedy = remedy

    def __str__(self) -> str:
        what = str(self.args[0])
        return what if self.remedy is None else f"{what}: {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.remedy)


class WrongAnswer(Error):
    """An answer that cannot be right; nothing of it is shown."""


class OutsideRange(Error, ValueError):
    """A value of an input is not like those that the network was calibrated on."""


class OtherKeys(Error, ValueError):
    """Keys, inputs, answers or plans of different clients or networks were mixed."""


class NotEnoughMemory(Error, MemoryError):
    """Work would take more memory than there is, or than is allowed."""


class ServiceError(Error):
    """A service refuses something, or can't be reached.

    Attributes
    ----------
    remedy : str
        What helps.
    code : str
        For programs, as ``docs/serve.md`` lists them: "no_such_keys", "over_quota_cpu", "plan_retired", "unreachable" and so on.
    """

    def __init__(self, what: str, remedy: str | None = None, code: str = ""):
        super().__init__(what, remedy)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.remedy, self.code)


class PolyveilWarning(UserWarning):
    """Something that goes on, and of which you should know."""
