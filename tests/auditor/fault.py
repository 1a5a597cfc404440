"""A fault in what was read: a stable code (PROTOCOL.md, Error codes) and a sentence."""


class Fault(Exception):
    """Something that the protocol forbids."""

    def __init__(self, code, what=""):
        super().__init__(f"{code}: {what}" if what else code)
        self.code = code
        self.what = what

    def __reduce__(self):
        return (Fault, (self.code, self.what))


def require(condition, code, what=""):
    if not condition:
        raise Fault(code, what)
