"""Just enough of secp256k1 to check recovery ids; OpenSSL decides whether a signature holds.

A signature (r, s) of the hash e under the key Q holds if R = (e/s)·G + (r/s)·Q has an x that is r
modulo the order N. The recovery id tells which of the points with such an x is R. Given signatures
that hold, the ids of many are checked together: the sum of a·(R - (e/s)·G - (r/s)·Q), each with a
random 128-bit a, is nothing if all are right, and with overwhelming probability only then. Where it
is not, halves are tried, down to single ones.
"""

import secrets

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
_NOTHING = (1, 1, 0)


def lift(x, odd):
    """The point with this x and the given parity of y; None if there is none."""
    if not 0 <= x < P:
        return None
    square = (x * x * x + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return (x, P - y if y & 1 != odd else y)


def _double(point):
    x, y, z = point
    if z == 0 or y == 0:
        return _NOTHING
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * x * x % P
    x2 = (m * m - 2 * s) % P
    return (x2, (m * (s - x2) - 8 * yy * yy) % P, 2 * y * z % P)


def _add_affine(point, other):
    """The sum of a point in Jacobian coordinates and one in affine ones."""
    x1, y1, z1 = point
    x2, y2 = other
    if z1 == 0:
        return (x2, y2, 1)
    zz = z1 * z1 % P
    h = (x2 * zz - x1) % P
    r = (y2 * zz * z1 - y1) % P
    if h == 0:
        return _double(point) if r == 0 else _NOTHING
    hh = h * h % P
    hhh = h * hh % P
    v = x1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return (x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P)


def _add(point, other):
    """The sum of two points in Jacobian coordinates."""
    x1, y1, z1 = point
    x2, y2, z2 = other
    if z1 == 0:
        return other
    if z2 == 0:
        return point
    zz1, zz2 = z1 * z1 % P, z2 * z2 % P
    u1, u2 = x1 * zz2 % P, x2 * zz1 % P
    s1, s2 = y1 * zz2 * z2 % P, y2 * zz1 * z1 % P
    h, r = (u2 - u1) % P, (s2 - s1) % P
    if h == 0:
        return _double(point) if r == 0 else _NOTHING
    hh = h * h % P
    hhh = h * hh % P
    v = u1 * hh % P
    x3 = (r * r - hhh - 2 * v) % P
    return (x3, (r * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P)


def _is_nothing(terms):
    """Whether the sum of k·A over all (k, A) is the point at infinity, by Pippenger's buckets."""
    terms = [(k, point) for k, point in terms if k]
    bits = max((k.bit_length() for k, _ in terms), default=0)
    width = max(1, len(terms).bit_length() - 4)
    total = _NOTHING
    for shift in range((bits + width - 1) // width * width - width, -1, -width):
        for _ in range(width):
            total = _double(total)
        buckets = [_NOTHING] * (1 << width)
        for k, point in terms:
            digit = k >> shift & (1 << width) - 1
            if digit:
                buckets[digit] = _add_affine(buckets[digit], point)
        running = _NOTHING
        for bucket in buckets[:0:-1]:
            running = _add(running, bucket)
            total = _add(total, running)
    return total[2] == 0


def _ids_hold(signatures):
    of_base, of_key, terms = 0, {}, []
    for key, e, r, s, recovery_id in signatures:
        point = lift(r + N if recovery_id & 2 else r, recovery_id & 1) if recovery_id < 4 else None
        if point is None:
            return False
        a = secrets.randbits(128) | 1
        inverse = pow(s, -1, N)
        of_base -= a * e * inverse
        of_key[key] = of_key.get(key, 0) - a * r * inverse
        terms.append((a, point))
    terms.append((of_base % N, G))
    terms.extend((k % N, key) for key, k in of_key.items())
    return _is_nothing(terms)


def wrong_recovery_ids(signatures):
    """The positions of signatures (key's point, e, r, s, recovery id) whose recovery id is wrong.

    The signatures must hold.
    """
    if not signatures or _ids_hold(signatures):
        return []
    if len(signatures) == 1:
        return [0]
    half = len(signatures) // 2
    right = wrong_recovery_ids(signatures[half:])
    return wrong_recovery_ids(signatures[:half]) + [half + at for at in right]
