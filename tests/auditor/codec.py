"""The codec: little-endian, fixed width, all input consumed. PROTOCOL.md, The codec."""

from .fault import Fault, require


class Reader:
    """Takes values off the front of bytes; any fault is `malformed_encoding`."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        end = self.at + count
        require(end <= len(self.data), "malformed_encoding", f"ends before byte {end}")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _integer(self, count, signed=False):
        return int.from_bytes(self.take(count), "little", signed=signed)

    def u8(self):
        return self._integer(1)

    def u16(self):
        return self._integer(2)

    def u32(self):
        return self._integer(4)

    def u64(self):
        return self._integer(8)

    def i32(self):
        return self._integer(4, signed=True)

    def i64(self):
        return self._integer(8, signed=True)

    def blob(self):
        """A byte string: u64 length, then the bytes."""
        return self.take(self.u64())

    def sequence(self, read):
        """A list; each value has at least one byte, so that the input bounds the length."""
        count = self.u64()
        require(count <= len(self.data) - self.at, "malformed_encoding", "a length beyond the input")
        return [read(self) for _ in range(count)]

    def hash(self):
        return self.take(32)

    def string(self):
        count = self.u64()
        require(count <= len(self.data), "malformed_encoding", "a length beyond the input")
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise Fault("malformed_encoding", "a string that is not UTF-8") from None

    def optional(self, read):
        flag = self.take(1)[0]
        require(flag <= 1, "malformed_encoding", f"an optional value marked {flag}")
        return read(self) if flag else None

    def variant(self, count):
        number = self.u32()
        require(number < count, "malformed_encoding", f"variant {number} of {count}")
        return number

    def end(self):
        require(self.at == len(self.data), "not_canonical", "bytes after the value")


def u16(value):
    return value.to_bytes(2, "little")


def u32(value):
    return value.to_bytes(4, "little")


def u64(value):
    return value.to_bytes(8, "little")


def i32(value):
    return value.to_bytes(4, "little", signed=True)


def i64(value):
    return value.to_bytes(8, "little", signed=True)


def string(value):
    encoded = value.encode("utf-8")
    return u64(len(encoded)) + encoded


def optional(value, write):
    return b"\0" if value is None else b"\1" + write(value)


def sequence(values, write):
    return u64(len(values)) + b"".join(write(value) for value in values)
