// The store as its users see it: what a client library on top of coroipc looks like.
import { connect, type Connection, type Payload } from '@coroipc/ipcc'
import { CHANGED, DELETE, GET, LIST, PAGE_KEYS, SET, Status, STORE, WATCH } from './protocol.js'

const reasons = {
  [Status.badKey]: 'not a key: 3 to 255 of a-z A-Z 0-9 . _ / : -',
  [Status.tooLarge]: 'the value is too large',
  [Status.full]: 'the store is full',
}

/** A change of a watched key; `value` is undefined if it was deleted. */
export interface Change {
  readonly key: string
  readonly value: string | undefined
}

export class Store implements AsyncDisposable {
  readonly #connection: Connection

  private constructor(connection: Connection) {
    this.#connection = connection
  }

  static async open(name: string): Promise<Store> {
    return new Store(await connect(name, { service: STORE }))
  }

  async get(key: string): Promise<string | undefined> {
    return this.#ask(GET, key)
  }

  async set(key: string, value: string): Promise<void> {
    if (key.includes('\0')) throw new Error(reasons[Status.badKey])
    await this.#ask(SET, [key, '\0', value])
  }

  /** True if it was there. */
  async delete(key: string): Promise<boolean> {
    return (await this.#ask(DELETE, key)) !== undefined
  }

  /** Keys in order; those that come and go meanwhile may be in it or not. */
  async *keys(prefix = ''): AsyncGenerator<string> {
    let after = ''
    for (;;) {
      const answer = await this.#ask(LIST, JSON.stringify({ prefix, after }))
      const keys = JSON.parse(answer ?? '[]') as string[]
      yield* keys
      if (keys.length < PAGE_KEYS) return
      after = keys.at(-1) as string
    }
  }

  /**
   * Every change of keys that begin with `prefix`, from now on. Fails with `ERR_COROIPC_BACKLOG_OVERFLOW` if it is not
   * read: then some were missed, and a new `Store` has to look at the keys again.
   */
  async watch(prefix: string): Promise<AsyncIterable<Change>> {
    const messages = this.#connection.dispatches()
    await this.#ask(WATCH, prefix)
    return (async function* () {
      for await (const { id, payload } of messages) {
        const text = Buffer.from(payload).toString()
        const end = text.indexOf('\0')
        if (id !== CHANGED) yield { key: text, value: undefined }
        else yield { key: text.slice(0, end), value: text.slice(end + 1) }
      }
    })()
  }

  async close(): Promise<void> {
    await this.#connection.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** The answer; undefined if there is no such key. */
  async #ask(id: number, payload: Payload): Promise<string | undefined> {
    const answer = await this.#connection.request(id, payload, { full: true })
    if (answer.status === Status.notFound) return undefined
    if (answer.status !== Status.ok)
      throw new Error(reasons[answer.status as keyof typeof reasons] ?? `status ${answer.status}`)
    return Buffer.from(answer.payload).toString()
  }
}
