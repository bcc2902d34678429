// What both sides of the zero-copy example have agreed on.

export const PICTURES = 1
/** A picture, one byte a pixel; the answer is its negative. */
export const NEGATE = 0
/** Largest picture. */
export const LIMIT = 16 << 20
