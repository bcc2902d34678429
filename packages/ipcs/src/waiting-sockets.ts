type Waiting = [fd: number, uid: number]

/**
 * Accepted sockets that wait for a worker, fair between users: who knocks often waits behind itself. Every user has a queue
 * of its own; they are served in turns, and where all are too many the oldest of the longest queue has to go, so that a user
 * with few of them loses none to a user with many.
 */
export class WaitingSockets {
  readonly #max: number
  /** By uid, in the order of their turns; no queue is empty. */
  readonly #queues = new Map<number, number[]>()
  #size = 0

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#size
  }

  /** @returns the socket that has to go, if one has. */
  push(fd: number, uid: number): number | undefined {
    const queue = this.#queues.get(uid)
    if (queue === undefined) this.#queues.set(uid, [fd])
    else queue.push(fd)
    this.#size++
    return this.#size > this.#max ? this.#evict() : undefined
  }

  /** The next one that a worker should get. */
  get next(): Waiting | undefined {
    for (const [uid, [fd]] of this.#queues) return [fd as number, uid]
    return undefined
  }

  /** Takes the next one out; its user's turn comes again after all others. */
  shift(): Waiting | undefined {
    for (const [uid, queue] of this.#queues) {
      this.#queues.delete(uid)
      const fd = queue.shift() as number
      if (queue.length > 0) this.#queues.set(uid, queue)
      this.#size--
      return [fd, uid]
    }
    return undefined
  }

  #evict(): number | undefined {
    let longest: [uid: number, queue: number[]] | undefined
    for (const each of this.#queues)
      if (longest === undefined || each[1].length > longest[1].length) longest = each
    if (longest === undefined) return undefined
    const [uid, queue] = longest
    const fd = queue.shift()
    if (queue.length === 0) this.#queues.delete(uid)
    this.#size--
    return fd
  }
}
