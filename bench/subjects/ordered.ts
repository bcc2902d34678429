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

/** What a server has to do with that has one client, and one for all its life: a child, a thread. */
const oneClientCases: ReadonlySet<string> = new Set([
  'rtt-sync',
  'rtt-async',
  'pipelined',
  'dispatch',
])

export function refusesManyClients(task: Task): string | undefined {
  return oneClientCases.has(task.case) && task.connections === 1
    ? undefined
    : 'it has one client, which starts it'
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
  { payloadBytes }: Task,
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
    payload: (request) => channel.payload(work.answer(request)),
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
  { payloadBytes }: Task,
): { side: ClientSide; receiver: Omit<Receiver, 'ended'> } {
  const more = creditMessages(payloadBytes)
  const waiting: ((answer: Uint8Array) => void)[] = []
  let onPayload: ((payload: Uint8Array) => void) | undefined
  let received = 0
  const requestCallback = (payload: Uint8Array, done: (answer: Uint8Array) => void): void => {
    waiting.push(done)
    channel.payload(payload)
  }
  return {
    side: {
      request: (payload) => new Promise((resolve) => requestCallback(payload, resolve)),
      requestCallback,
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
    },
  }
}
