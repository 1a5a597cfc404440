"""Just enough of Ed25519's curve to refuse the points that the protocol refuses."""

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
_SIGN = 1 << 255


def y_of(encoded):
    """The y coordinate in 32 bytes; canonical if below P."""
    return int.from_bytes(encoded, "little") & _SIGN - 1


def _x_squared(y):
    return (y * y - 1) * pow(_D * y * y + 1, -1, P) % P


def is_on_curve(y):
    square = _x_squared(y)
    return square == 0 or pow(square, (P - 1) // 2, P) == 1


def _add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = _D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return (x, y)


def _multiply(k, point):
    total = (0, 1)
    for bit in bin(k)[2:]:
        total = _add(total, total)
        if bit == "1":
            total = _add(total, point)
    return total


def _square_root(square):
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root


def _small_ys():
    """The y coordinates of the points whose order divides 8. L times any point is one of them."""
    y = 2
    while True:
        y += 1
        if not is_on_curve(y):
            continue
        torsion = _multiply(L, (_square_root(_x_squared(y)), y))
        if _multiply(4, torsion) != (0, 1):
            return frozenset(_multiply(k, torsion)[1] for k in range(8))


SMALL_YS = _small_ys()
assert len(SMALL_YS) == 5


def is_small(y):
    """Whether both points with this y have an order that divides 8."""
    return y % P in SMALL_YS
