// The cache as a program uses it. What was got is kept here and handed out without asking, until the server says that it
// is no longer right. A time to live is the server's affair: nearby copies of such a value go when it is next asked for.
import { connect, type Connection } from '@coroipc/ipcc'
import {
  CACHE,
  DELETE,
  type Figures,
  FIGURES,
  GET,
  packed,
  SET,
  STALE,
  Status,
} from './protocol.js'

export class Cache implements AsyncDisposable {
  readonly #connection: Connection
  readonly #near = new Map<string, Uint8Array>()
  /** Questions on their way: who asks for the same key meanwhile gets the same answer. */
  readonly #asked = new Map<string, Promise<Uint8Array | undefined>>()
  readonly #stale = new Set<string>()

  private constructor(connection: Connection) {
    this.#connection = connection
    connection.on('dispatch', ({ id, payload }) => {
      if (id !== STALE) return
      const key = Buffer.from(payload).toString()
      this.#near.delete(key)
      // The answer that it is about may still be on its way: there is no order between answers and dispatches.
      if (this.#asked.has(key)) this.#stale.add(key)
    })
    connection.on('close', () => this.#near.clear())
  }

  static async connect(name: string): Promise<Cache> {
    return new Cache(await connect(name, { service: CACHE, requestTimeoutMs: 2000 }))
  }

  /** How many values are kept here. */
  get near(): number {
    return this.#near.size
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    const near = this.#near.get(key)
    if (near !== undefined) return near
    const asked = this.#asked.get(key) ?? this.#ask(key)
    this.#asked.set(key, asked)
    return asked
  }

  async #ask(key: string): Promise<Uint8Array | undefined> {
    try {
      const { status, payload } = await this.#connection.request(GET, key, { full: true })
      if (status === Status.missing) return undefined
      if (!this.#stale.has(key)) this.#near.set(key, payload)
      return payload
    } finally {
      this.#asked.delete(key)
      this.#stale.delete(key)
    }
  }

  /** For synchronous code: always asks, and keeps nothing. */
  getSync(key: string): Uint8Array | undefined {
    const { status, payload } = this.#connection.requestSync(GET, key, { full: true })
    return status === Status.missing ? undefined : payload
  }

  async set(key: string, value: Uint8Array, ttl_ms = 0): Promise<void> {
    const { status } = await this.#connection.request(SET, packed({ key, value, ttl_ms }), {
      full: true,
    })
    if (status === Status.tooLarge) throw new RangeError(`${key}: too large for this cache`)
  }

  async delete(key: string): Promise<boolean> {
    const { status } = await this.#connection.request(DELETE, key, { full: true })
    return status === Status.ok
  }

  async figures(): Promise<Figures> {
    return JSON.parse(Buffer.from(await this.#connection.request(FIGURES)).toString()) as Figures
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close()
  }
}
