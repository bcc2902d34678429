// What the server with a loop of its own and its clients have agreed on.

export const BALL = 1
/** A speed, float64; the answer is JSON of {@link State}. */
export const PUSH = 0
/** Ends the server; the answer is empty. */
export const STOP = 1
/** By dispatch, every frame: JSON of {@link State}. */
export const FRAME = 0

export interface State {
  readonly frame: number
  /** 0 to 1: the ball rolls between two walls. */
  readonly position: number
}
