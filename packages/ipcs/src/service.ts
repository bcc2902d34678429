/** A service: what a developer says about it, and the checked form that the server works with. */
import type { Checks, Credentials, IpcError } from '@coroipc/native'
import {
  anything,
  boolean,
  callable,
  checkOptions,
  integer,
  invalidArgument,
  limits,
  oneOf,
  policyCodes,
  priorityCodes,
} from '@coroipc/native'
import type { Connection } from './connection.js'
import { Mutex } from './mutex.js'
import type { Answer, Request } from './request.js'

/** Services and ids are 16 bits each. */
export const ID_MAX = 65535

/**
 * Answers one kind of request. It returns the answer, or a promise of it:
 *
 * - bytes: a `Uint8Array`, any view, an `ArrayBuffer`, a string (sent as UTF-8);
 * - a list of these, gathered into one payload;
 * - nothing, for an empty answer;
 * - `{ status, payload }`, to set the application's own status;
 * - a buffer of `connection.allocate`, handed over without copying where the client is trusted;
 * - nothing after `request.respond(...)` or `request.defer()`.
 *
 * What goes wrong has a code of its own at the client: it threw (`ERR_COROIPC_HANDLER_FAILED`), its
 * promise rejected (`_HANDLER_REJECTED`), it returned a promise where none can settle
 * (`_HANDLER_ASYNC`), something that is not an answer (`_ANSWER_INVALID`), or too much
 * (`_ANSWER_TOO_LARGE`). The error itself stays here: the server's `error` event has it as `cause`. A
 * handler that throws an `IpcError` of code `ERR_COROIPC_RETRY` or `ERR_COROIPC_REFUSED` answers with
 * that code and nothing is reported.
 */
export type Handler<Context = unknown> = (
  request: Request<Context>,
  connection: Connection<Context>,
) => Answer | PromiseLike<Answer>

/**
 * A handler for loops that count every nanosecond: the request's bytes are lent to it, `length` bytes at `offset` of `bytes`,
 * **until it returns**; the memory is then used for the next. Neither a view nor a {@link Request} is made, so there is no
 * deadline, no signal and nothing to defer: it returns its answer, as a {@link Handler} does. What lies around the
 * request is none of its business, and it must not keep, transfer or write to `bytes`; what it returns is copied at once, so it
 * may be a part of them. (A promise may be returned, but what it comes to must not be.)
 */
export type TransientHandler<Context = unknown> = (
  bytes: Uint8Array,
  offset: number,
  length: number,
  connection: Connection<Context>,
) => Answer | PromiseLike<Answer>

/** What `admit` may say: run the handler, or tell the client to try again, or that it never will. */
export type Admission = 'accept' | 'retry' | 'refuse'

/** How urgent a connection is when many are ready. No priority can starve a lower one. */
export type Priority = keyof typeof priorityCodes

/**
 * What becomes of a dispatch that finds the ring full and the backlog at its limit:
 * `'error'` (default) it is not queued, `dispatch` returns false and `'drain'` follows;
 * `'drop-oldest'` the oldest that waits goes; `'drop-newest'` this one goes; `'disconnect'` the
 * connection ends with `ERR_COROIPC_BACKLOG_OVERFLOW`.
 */
export type BacklogPolicy = keyof typeof policyCodes

/** A JSON Schema, as far as tools look at it. */
export type JsonSchemaLike = Readonly<Record<string, unknown>> | boolean

/** One kind of request, for people and tools. */
export interface RequestDescription {
  readonly name: string
  readonly summary?: string | undefined
  /** How payloads are written: `'json'`, `'utf8'`, `'bytes'`, or a name of your own. */
  readonly codec?: string | undefined
  readonly request?: JsonSchemaLike | undefined
  readonly response?: JsonSchemaLike | undefined
  /** True: sent by `connection.send`, nobody waits. */
  readonly oneWay?: boolean | undefined
}

/** One kind of dispatch, for people and tools. */
export interface DispatchDescription {
  readonly name: string
  readonly summary?: string | undefined
  /** As of a {@link RequestDescription}. */
  readonly codec?: string | undefined
  readonly payload?: JsonSchemaLike | undefined
}

/**
 * What a service says about itself: plain JSON that the server never interprets. Tools read it where the
 * server has the option `inspect`.
 */
export interface ServiceDescription {
  readonly name?: string | undefined
  readonly version?: string | undefined
  readonly summary?: string | undefined
  /** By request id. */
  readonly requests?: Readonly<Record<number, RequestDescription>> | undefined
  /** By dispatch id. */
  readonly dispatches?: Readonly<Record<number, DispatchDescription>> | undefined
}

/** Handlers by request id. Copied by `addService`. */
export type Handlers<Context = unknown> =
  | Readonly<Record<number, Handler<Context>>>
  | ReadonlyMap<number, Handler<Context>>

/** Transient handlers by request id. Copied by `addService`. */
export type TransientHandlers<Context = unknown> =
  | Readonly<Record<number, TransientHandler<Context>>>
  | ReadonlyMap<number, TransientHandler<Context>>

/** What `addService` takes. */
export interface ServiceOptions<Context = unknown> {
  /** 0 to 65535. */
  readonly id: number
  /** By request id, 0 to 65535. Ids without one are answered `ERR_COROIPC_NO_HANDLER`. */
  readonly handlers?: Handlers<Context> | undefined
  /**
   * By request id, of those that `handlers` has not. `select`, `admit`, `serialize`, tracing and recording work with them as with
   * others; a service or server that has none of these calls them the short way.
   */
  readonly transientHandlers?: TransientHandlers<Context> | undefined
  /**
   * Makes the private data of a connection: `connection.context`, whose type it says for this service.
   * (TypeScript reads options from the top: what stands above `context` does not know that type yet.) If
   * it throws, the client is gone.
   */
  readonly context?: ((connection: Connection) => Context) | undefined
  /**
   * A client is there. What is dispatched here arrives. If it throws, the client is disconnected. With
   * `serialize` a promise holds its requests back until it has settled; else they are handled meanwhile.
   */
  readonly onConnect?:
    | ((connection: Connection<Context>) => void)
    | ((connection: Connection<Context>) => PromiseLike<void>)
    | undefined
  /**
   * A client is gone; `reason.code` says why (`ERR_COROIPC_PEER_DEAD`, `ERR_COROIPC_DISCONNECTED`,
   * `ERR_COROIPC_PROTOCOL`, `ERR_COROIPC_BACKLOG_OVERFLOW`). Its resources stay until a promise that is
   * returned has settled (coroipc's "busy, call again") and nobody holds the connection.
   */
  readonly onDisconnect?:
    | ((connection: Connection<Context>, reason: IpcError) => void)
    | ((connection: Connection<Context>, reason: IpcError) => PromiseLike<void>)
    | undefined
  /**
   * Asked before each handler. `'retry'` is `ERR_COROIPC_RETRY` at the client, `'refuse'` is
   * `ERR_COROIPC_REFUSED`. If it throws, the client gets `ERR_COROIPC_HANDLER_FAILED`.
   */
  readonly admit?: ((request: Request<Context>) => Admission) | undefined
  /** Always follows `admit`: when the request is answered, refused or its client gone. */
  readonly onAdmitted?: ((request: Request<Context>) => void) | undefined
  /**
   * True says that this peer may share memory with handlers: its zero-copy buffers are read in place.
   * It can then change bytes while they are read, which can crash a process that decodes or sorts them.
   * Default: nobody; the same calls work on private copies.
   */
  readonly trust?: ((credentials: Credentials) => boolean) | undefined
  /** Default `'normal'`. */
  readonly priority?: Priority | undefined
  /** Requests of one connection that are read each second; Infinity (default) no limit, 0 paused. */
  readonly requestsPerSecond?: number | undefined
  /** Default `'error'`. */
  readonly backlogPolicy?: BacklogPolicy | undefined
  /** Bytes of dispatches that wait for one connection. Default: the server's. */
  readonly backlogBytes?: number | undefined
  /**
   * One handler or hook of this service at a time, in the order of their coming, promises included; a
   * deferred request lets the next one run. Default: the server's `serialize`.
   */
  readonly serialize?: boolean | undefined
  /** What it is called and what its requests and dispatches are, for tools. Nothing else reads it. */
  readonly description?: ServiceDescription | undefined
}

/** The check of `requestsPerSecond`. */
export function checkRate(name: string, value: unknown): void {
  if (value === Infinity) return
  if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 0x7fffffff)
    throw invalidArgument(name, 'an integer from 0 to 2147483647, or Infinity', value)
}

/** How natives write a rate: 0 is no limit. */
export function rateCode(requestsPerSecond: number): number {
  if (requestsPerSecond === Infinity) return 0
  return requestsPerSecond === 0 ? limits.rateOff : requestsPerSecond
}

/** Anything that `JSON.stringify` makes an object of. */
function checkDescription(name: string, value: unknown): void {
  const expected = 'an object that JSON can write'
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalidArgument(name, expected, value)
  try {
    JSON.stringify(value)
  } catch {
    throw invalidArgument(name, expected, value)
  }
}

const checks: Checks = {
  id: integer(0, ID_MAX),
  handlers: anything,
  transientHandlers: anything,
  context: callable,
  onConnect: callable,
  onDisconnect: callable,
  admit: callable,
  onAdmitted: callable,
  trust: callable,
  priority: oneOf(...Object.keys(priorityCodes)),
  requestsPerSecond: checkRate,
  backlogPolicy: oneOf(...Object.keys(policyCodes)),
  backlogBytes: integer(1, 0xffffffff),
  serialize: boolean,
  description: checkDescription,
}

/** Ids below this are looked up in an array. */
const DENSE_IDS = 1024

/** A service in the form that requests meet. */
export class Service<Context> {
  /** -1: the one that stands for services which were not added. */
  readonly id: number
  readonly options: ServiceOptions<Context>
  readonly mutex: Mutex | undefined
  /** Whether a request needs nothing of this service but its handler. */
  readonly direct: boolean
  readonly #handlers: ById<Handler<Context>>
  readonly #transient: ById<TransientHandler<Context>>

  constructor(options: ServiceOptions<Context>, serverMutex: Mutex | undefined, any = false) {
    if (!any) {
      checkOptions('service', options, checks)
      if (options?.id === undefined)
        throw invalidArgument('service.id', `an integer from 0 to ${ID_MAX}`, options?.id)
    }
    this.id = any ? -1 : options.id
    this.options = options
    this.mutex =
      options.serialize === undefined ? serverMutex : options.serialize ? new Mutex() : undefined
    this.direct =
      this.mutex === undefined && options.admit === undefined && options.onAdmitted === undefined
    this.#handlers = new ById('service.handlers', options.handlers)
    this.#transient = new ById('service.transientHandlers', options.transientHandlers)
    for (const [id, handler] of this.#transient.entries()) {
      if (this.#handlers.get(id) !== undefined)
        throw invalidArgument('service.transientHandlers', 'ids that handlers has not', id)
      this.#handlers.set(id, ({ payload }, connection) =>
        handler(payload, 0, payload.length, connection),
      )
    }
  }

  handler(id: number): Handler<Context> | undefined {
    return this.#handlers.get(id)
  }

  /** That of `transientHandlers`; `handler` has one for each of these too. */
  transient(id: number): TransientHandler<Context> | undefined {
    return this.#transient.get(id)
  }
}

/** Functions by request id. */
class ById<Called extends (...values: never[]) => unknown> {
  readonly #dense: (Called | undefined)[] = []
  readonly #sparse = new Map<number, Called>()

  constructor(
    name: string,
    given: Readonly<Record<number, Called>> | ReadonlyMap<number, Called> | undefined,
  ) {
    const entries: Iterable<[unknown, unknown]> =
      given === undefined
        ? []
        : given instanceof Map
          ? given
          : typeof given === 'object' && given !== null
            ? Object.entries(given)
            : [[undefined, given]]
    for (const [key, called] of entries) {
      if (key === undefined) throw invalidArgument(name, 'an object or a Map of functions', called)
      // Names of an object's members are strings; '07' and 'x' are no ids.
      const named = typeof key === 'string' && /^(0|[1-9]\d*)$/.test(key)
      const id = named ? Number(key) : typeof key === 'number' ? key : -1
      if (!Number.isInteger(id) || id < 0 || id > ID_MAX)
        throw invalidArgument(name, `ids from 0 to ${ID_MAX}`, key)
      if (typeof called !== 'function')
        throw invalidArgument(`${name}[${id}]`, 'a function', called)
      this.set(id, called as Called)
    }
  }

  set(id: number, called: Called): void {
    this.#sparse.set(id, called)
    if (id >= DENSE_IDS) return
    while (this.#dense.length <= id) this.#dense.push(undefined)
    this.#dense[id] = called
  }

  get(id: number): Called | undefined {
    return id < this.#dense.length ? this.#dense[id] : this.#sparse.get(id)
  }

  entries(): IterableIterator<[number, Called]> {
    return this.#sparse.entries()
  }
}
