// What the relay, its camera and its viewers have agreed on.

/** The camera connects to this service. */
export const CAMERA = 1
/** A frame: {@link FRAME_BYTES}, in a buffer. The answer is JSON of {@link Relayed}. */
export const FRAME = 0

/** Viewers connect to this one, and get each frame for which they have room by dispatch. */
export const VIEWERS = 2

export const WIDTH = 1280
export const HEIGHT = 720
/** Grey, a byte for each pixel; in front of them the frame's number, 32 bits, in 64 bytes. */
export const HEAD_BYTES = 64
export const FRAME_BYTES: number = HEAD_BYTES + WIDTH * HEIGHT

export interface Relayed {
  readonly viewers: number
  /** Viewers that had no room: they have not given earlier frames back yet. */
  readonly late: number
}

/** Fills a frame with a picture that belongs to its number. */
export function draw(frame: Uint8Array, number: number): void {
  new DataView(frame.buffer, frame.byteOffset).setUint32(0, number, true)
  frame.fill(number & 255, HEAD_BYTES)
}

export const numberOf = (frame: Uint8Array): number =>
  new DataView(frame.buffer, frame.byteOffset).getUint32(0, true)

/** Whether it is one picture, not parts of two. A reader of memory that another process can change reads each byte once. */
export function whole(frame: Uint8Array): boolean {
  const pixel = numberOf(frame) & 255
  for (let at = HEAD_BYTES; at < FRAME_BYTES; at++) if (frame[at] !== pixel) return false
  return frame.length === FRAME_BYTES
}
