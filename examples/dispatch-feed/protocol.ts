// What the feed's server and its subscribers have agreed on.

export const FEED = 1

/** The name of a backlog policy; from now on the subscriber gets lines. */
export const SUBSCRIBE = 0
/** Answers '1' if no line waits for any subscriber, else '0'. */
export const CAUGHT_UP = 1

/** A line of the file, by dispatch. */
export const LINE = 0
