// For peers that carry messages in order and know no calls: what answers what, and credit where a peer
// takes everything that it is given and would only grow. A message is a payload or a control word.
import type { ClientSide, Feed, ServerWork } from '../subject.js'
import type { Task } from '../task.js'

const SUBSCRIBE = 1
const CREDIT = 2

/** Dispatches under way to one client, whatever their size at least 4, at most so many and so many bytes. */
const WINDOW_MESSAGES = 1024
const WINDOW_BYTES = 4 << 20

/** What a client gives credit for at once: a quarter of the window. */
function creditMessages(payloadBytes: number): number {
  const messages = Math.min(WINDOW_MESSAGES, WINDOW_BYTES / Math.max(payloadBytes, 1))
  return Math.max(1, Math.floor(messages / 4))
}

/** Calls that are to be told when the connection ends: only where it can happen, a list for every request
 * would be the larger part of it. */
export class Waiting {
  readonly #rejects: ((error: Error) => void)[] | undefined

  constructor(name: Task['case']) {
    this.#rejects = name === 'server-death' ? [] : undefined
  }

  add(reject: (error: Error) => void): void {
    this.#rejects?.push(reject)
  }

  fail(): void {
    for (const reject of this.#rejects?.splice(0) ?? []) reject(new Error('the server is gone'))
  }
}

export interface Channel {
  /** Has taken or copied the payload when it returns. */
  payload(payload: Uint8Array): void
  control(word: number): void
  close(): Promise<void>
}

/** What a channel's owner calls with what arrives. */
export interface Receiver {
  payload(payload: Uint8Array): void
  control(word: number): void
  /** The other side is gone. */
  ended(): void
}

export function answerOn(
  channel: Omit<Channel, 'close'>,
  work: ServerWork,
  { case: name, payloadBytes }: Task,
): Receiver {
  const more = creditMessages(payloadBytes)
  let credit = 4 * more
  const feed: Feed = work.feed({
    publish: (payload) => {
      if (credit === 0) return false
      credit--
      channel.payload(payload)
      return true
    },
  })
  return {
    payload: (request) => {
      if (name !== 'server-death') channel.payload(work.answer(request))
    },
    control: (word) => {
      if (word === SUBSCRIBE) {
        feed.start()
      } else {
        credit += more
        feed.drained()
      }
    },
    ended: () => feed.stop(),
  }
}

export function askOn(
  channel: Channel,
  { case: name, payloadBytes }: Task,
): { side: ClientSide; receiver: Receiver } {
  const more = creditMessages(payloadBytes)
  const waiting: ((answer: Uint8Array) => void)[] = []
  const failing = new Waiting(name)
  let onPayload: ((payload: Uint8Array) => void) | undefined
  let received = 0
  const requestCallback = (payload: Uint8Array, done: (answer: Uint8Array) => void): void => {
    waiting.push(done)
    channel.payload(payload)
  }
  return {
    side: {
      request: (payload) =>
        new Promise((resolve, reject) => {
          failing.add(reject)
          requestCallback(payload, resolve)
        }),
      requestCallback: (done) => (payload) => requestCallback(payload, done),
      subscribe: (callback) => {
        onPayload = callback
        channel.control(SUBSCRIBE)
      },
      close: () => channel.close(),
    },
    receiver: {
      payload: (payload) => {
        if (onPayload === undefined) {
          waiting.shift()?.(payload)
          return
        }
        onPayload(payload)
        if (++received < more) return
        received = 0
        channel.control(CREDIT)
      },
      control: () => {},
      ended: () => failing.fail(),
    },
  }
}
