// The arithmetic of both curves. Of public numbers only: its time depends on them.
import { toHex } from "./bytes.js";
import { sha256 } from "./hash.js";

const mod = (a, p) => {
  const rest = a % p;
  return rest < 0n ? rest + p : rest;
};

function power(base, exponent, p) {
  let result = 1n;
  for (let b = mod(base, p), e = exponent; e > 0n; e >>= 1n) {
    if (e & 1n) result = (result * b) % p;
    b = (b * b) % p;
  }
  return result;
}

/** The inverse modulo p by Euclid's algorithm; only of public numbers, since its time depends on them. */
function inverse(a, p) {
  let [r, s, x, y] = [mod(a, p), p, 1n, 0n];
  while (r > 1n) {
    const quotient = s / r;
    [r, s, x, y] = [s % r, r, y - quotient * x, x];
  }
  return mod(x, p);
}

export const big = (bytes) => BigInt(`0x0${toHex(bytes)}`);

const SECP_P = 2n ** 256n - 2n ** 32n - 977n;
export const SECP_N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const SECP_G = [
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
  1n,
];
const SECP_NOTHING = [0n, 1n, 0n];

/** The y of a point with this x and parity; null if there is none. */
export function secpY(x, odd) {
  if (x >= SECP_P) return null;
  const square = (x * x * x + 7n) % SECP_P;
  const y = power(square, (SECP_P + 1n) / 4n, SECP_P);
  if ((y * y) % SECP_P !== square) return null;
  return (y & 1n) === odd ? y : SECP_P - y;
}

function secpDouble([x, y, z]) {
  if (z === 0n) return SECP_NOTHING;
  const yy = (y * y) % SECP_P;
  const s = (4n * x * yy) % SECP_P;
  const m = (3n * x * x) % SECP_P;
  const x3 = mod(m * m - 2n * s, SECP_P);
  return [x3, mod(m * (s - x3) - 8n * yy * yy, SECP_P), (2n * y * z) % SECP_P];
}

/** The sum of two points in Jacobian coordinates. */
function secpAdd(a, b) {
  if (a[2] === 0n) return b;
  if (b[2] === 0n) return a;
  const [x1, y1, z1] = a;
  const [x2, y2, z2] = b;
  const zz1 = (z1 * z1) % SECP_P;
  const zz2 = (z2 * z2) % SECP_P;
  const u1 = (x1 * zz2) % SECP_P;
  const s1 = (y1 * zz2 * z2) % SECP_P;
  const h = mod(x2 * zz1 - u1, SECP_P);
  const r = mod(y2 * zz1 * z1 - s1, SECP_P);
  if (h === 0n) return r === 0n ? secpDouble(a) : SECP_NOTHING;
  const hh = (h * h) % SECP_P;
  const hhh = (h * hh) % SECP_P;
  const v = (u1 * hh) % SECP_P;
  const x3 = mod(r * r - hhh - 2n * v, SECP_P);
  return [x3, mod(r * (v - x3) - s1 * hhh, SECP_P), (z1 * z2 * h) % SECP_P];
}

/** a·G + b·Q, bit by bit for both at once. */
function secpSum(a, b, q) {
  const both = secpAdd(SECP_G, q);
  let sum = SECP_NOTHING;
  for (let bit = 255n; bit >= 0n; bit--) {
    sum = secpDouble(sum);
    const [ofG, ofQ] = [(a >> bit) & 1n, (b >> bit) & 1n];
    if (ofG && ofQ) sum = secpAdd(sum, both);
    else if (ofG) sum = secpAdd(sum, SECP_G);
    else if (ofQ) sum = secpAdd(sum, q);
  }
  return sum;
}

/** The recovery id of a signature (r, s) that holds; null if it does not. r and s are in range. */
export function recoveryId(point, message, r, s) {
  const byS = inverse(s, SECP_N);
  const u1 = (big(sha256(message)) * byS) % SECP_N;
  const [x, y, z] = secpSum(u1, (r * byS) % SECP_N, point);
  if (z === 0n) return null;
  const byZ = inverse(z, SECP_P);
  const affineX = (x * byZ * byZ) % SECP_P;
  if (affineX % SECP_N !== r) return null;
  const odd = ((y * byZ * byZ * byZ) % SECP_P) & 1n;
  return (affineX !== r ? 2 : 0) | Number(odd);
}

const P256_P = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
const P256_B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;

export const p256OnCurve = (x, y) => x < P256_P && y < P256_P && (x ** 3n - 3n * x + P256_B - y * y) % P256_P === 0n;

export const ED_P = 2n ** 255n - 19n;
export const ED_L = 2n ** 252n + 27742317777372353535851937790883648493n;
const ED_D = mod(-121665n * inverse(121666n, ED_P), ED_P);
// The y coordinates of the points whose order divides 8.
const ED_SMALL_YS = new Set([
  0n,
  1n,
  ED_P - 1n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
  ED_P - 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
]);

/** The y coordinate that 32 bytes name, which is canonical if it is below ED_P. */
export const edY = (bytes) => big(bytes.slice().reverse()) & (2n ** 255n - 1n);

export function edOnCurve(y) {
  const yy = (y * y) % ED_P;
  const square = mod((yy - 1n) * inverse(ED_D * yy + 1n, ED_P), ED_P);
  return square === 0n || power(square, (ED_P - 1n) / 2n, ED_P) === 1n;
}

export const edIsSmall = (y) => ED_SMALL_YS.has(y % ED_P);
