/** How a server is woken: by libuv, by its own blocking loop, or by a poll system of the user's. */
import { invalidArgument } from '@coroipc/native'

/** Readable, and writable: the events of poll(2), as given to a {@link Poll}. */
export const POLLIN = 1
export const POLLOUT = 4

/**
 * A poll system of your own (coroipc's `poll_*` callbacks): the server names fds and the events of
 * poll(2) that it waits for; your loop watches them level-triggered, and calls `server.handlerAccept` or
 * `server.handlerDispatch` with the cookie when one is ready.
 *
 * Each of these two returns `'more'` while work is left: then `server.process()` has to be called until
 * it returns `'idle'`. Where libuv runs as well, that is done for you, and so is the tick by which
 * deadlines are noticed; a loop that keeps libuv from running calls `server.process()` at least every
 * 100 ms.
 */
export interface Poll {
  /** Watch the listening socket `fd` for POLLIN, then call `server.handlerAccept(cookie)`. */
  acceptAdd(fd: number, cookie: number): void
  /** Watch a connection's `fd`, then call `server.handlerDispatch(cookie, revents)`. */
  dispatchAdd(fd: number, events: number, cookie: number): void
  /**
   * Watch for these events from now on: POLLIN | POLLOUT while something waits for room on the socket, and
   * POLLIN afterwards.
   */
  dispatchModify(fd: number, events: number, cookie: number): void
  /** Forget `fd`, of a connection or of the listener; it is closed after this call. */
  dispatchDestroy(fd: number, cookie: number): void
}

/** What `uvPoll` and `blockingPoll` return. */
export interface BuiltInPoll {
  readonly kind: 'uv' | 'blocking'
}

const uv: BuiltInPoll = Object.freeze({ kind: 'uv' })
const blocking: BuiltInPoll = Object.freeze({ kind: 'blocking' })

/** The default: the server lives in this thread's event loop. */
export function uvPoll(): BuiltInPoll {
  return uv
}

/**
 * No event loop: `server.run()` blocks this thread, or a loop of yours watches `server.fd` and calls
 * `server.process()`. In `run`, handlers and hooks have to be synchronous, since no promise can settle.
 */
export function blockingPoll(): BuiltInPoll {
  return blocking
}

const METHODS = ['acceptAdd', 'dispatchAdd', 'dispatchModify', 'dispatchDestroy'] as const

/** Checks the option `poll`. */
export function checkPoll(name: string, value: unknown): void {
  if (value === uv || value === blocking) return
  if (typeof value !== 'object' || value === null)
    throw invalidArgument(name, 'uvPoll(), blockingPoll() or a Poll', value)
  for (const method of METHODS) {
    const member = (value as Record<string, unknown>)[method]
    if (typeof member !== 'function')
      throw invalidArgument(`${name}.${method}`, 'a function', member)
  }
}
