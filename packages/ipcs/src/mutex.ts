/**
 * `serialize`: one handler or hook at a time, in the order in which they became due (coroipc's
 * serialize_lock). Tasks run at once and synchronously while the mutex is free, so that a service of
 * synchronous handlers pays one comparison.
 */
export class Mutex {
  #busy = false
  #waiting: (() => unknown)[] = []

  /** Runs `task` now or when all before it are done. A task that returns a promise is done with it. */
  run(task: () => unknown): void {
    if (this.#busy) this.#waiting.push(task)
    else this.#start(task)
  }

  readonly #resume = (): void => {
    const next = this.#waiting.shift()
    if (next === undefined) this.#busy = false
    else this.#start(next)
  }

  #start(first: () => unknown): void {
    this.#busy = true
    for (let task: (() => unknown) | undefined = first; task; task = this.#waiting.shift()) {
      try {
        const result = task()
        if (result instanceof Promise) {
          void result.then(this.#resume, this.#resume)
          return
        }
      } catch (error) {
        // Those that wait are others': it surfaces as any uncaught one does, and they go on.
        queueMicrotask(() => {
          throw error
        })
      }
    }
    this.#busy = false
  }
}
