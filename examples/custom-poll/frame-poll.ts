// A poll system for programs with a loop of their own, written against the callbacks of the server: it keeps what the
// server waits for, and looks after all of it when the program has time.
//
// JavaScript cannot ask the kernel which fds are ready, so each is said to be, once a frame: the server looks for itself,
// at the price of a system call or two for each. A program with a poll(2) of its own names only those that are.
import { type Poll, POLLIN, type Progress, type Server } from '@coroipc/ipcs'

interface Source {
  readonly fd: number
  readonly listener: boolean
  events: number
}

export class FramePoll implements Poll {
  readonly #sources = new Map<number, Source>()

  acceptAdd(fd: number, cookie: number): void {
    this.#sources.set(cookie, { fd, listener: true, events: POLLIN })
  }

  dispatchAdd(fd: number, events: number, cookie: number): void {
    this.#sources.set(cookie, { fd, listener: false, events })
  }

  dispatchModify(_fd: number, events: number, cookie: number): void {
    const source = this.#sources.get(cookie)
    if (source !== undefined) source.events = events
  }

  dispatchDestroy(_fd: number, cookie: number): void {
    this.#sources.delete(cookie)
  }

  /** How much is watched. */
  get size(): number {
    return this.#sources.size
  }

  /** Looks at everything once, then lets the server work until it is idle or the time is up. */
  look(server: Server, untilMs: number): void {
    // What is handled may add and destroy sources; a Map's iterator copes with both.
    for (const [cookie, source] of this.#sources) {
      if (source.listener) server.handlerAccept(cookie)
      else server.handlerDispatch(cookie, source.events)
    }
    let progress: Progress
    do progress = server.process()
    while (progress === 'more' && performance.now() < untilMs)
  }
}
