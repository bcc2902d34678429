/** `@coroipc/contract/client`: the client's side of a contract: requests, blocking ones, and dispatches, by name. */
import {
  abortSignal,
  boolean,
  callable,
  type Checks,
  checkOptions,
  Encoded,
  type Encoder,
  invalidArgument,
} from '@coroipc/native'
import type { Answer, Connection, Message, Reconnecting } from '@coroipc/ipcc'
import {
  type Contract,
  type DispatchName,
  type DispatchOutput,
  formOf,
  type OneWayName,
  type RequestDefinition,
  type RequestInput,
  type RequestName,
  type ResponseOutput,
} from './define.js'
import {
  ContractError,
  type ContractErrorCode,
  INVALID_STATUS,
  type Issue,
  MESSAGE_LENGTH,
  readIssues,
  StatusError,
} from './error.js'
import { Invalid, type Receive, receiver, validated } from './receive.js'

/** What {@link client} takes beside connection and contract. */
export interface ClientOptions<Validated extends boolean = boolean> {
  /**
   * Validate answers and dispatches. Default true: a server is a stranger as well. With false values are what the
   * codec makes of the bytes, and have the type of the schema's input.
   */
  readonly validate?: Validated | undefined
  /** Validate requests before they are sent, although the server does so as well. Default false. */
  readonly validateRequests?: boolean | undefined
  /** Told of dispatches for `on` that are not what the contract says. Default: a process warning, once. */
  readonly onInvalid?: ((error: ContractError) => void) | undefined
}

/** What a request takes beside its value. */
export interface CallOptions {
  /** Milliseconds from 1; Infinity: no limit. Default: the connection's `requestTimeoutMs`. */
  readonly timeoutMs?: number | undefined
  /** Gives the request up: `ERR_COROIPC_ABORTED`. */
  readonly signal?: AbortSignal | undefined
}

/** What a blocking request takes beside its value. */
export interface CallSyncOptions {
  /** As in {@link CallOptions}. */
  readonly timeoutMs?: number | undefined
}

/** The value, which may be left out where there is none, then the options. */
type Arguments<Value, Options> = undefined extends Value
  ? [value?: Value, options?: Options]
  : [value: Value, options?: Options]

/** A dispatch, with its name. */
export type Dispatched<C extends Contract, Validated extends boolean = true> = {
  [Name in DispatchName<C>]: {
    readonly name: Name
    readonly value: DispatchOutput<C, Name, Validated>
    /** As in the untyped message. */
    readonly sequence: number
  }
}[DispatchName<C>]

/** Requests that are answered, and those that are not. */
export type Calls<C extends Contract, Validated extends boolean = true> = {
  readonly [Name in RequestName<C>]: (
    ...args: Arguments<RequestInput<C, Name>, CallOptions>
  ) => Promise<ResponseOutput<C, Name, Validated>>
} & {
  readonly [Name in OneWayName<C>]: (...args: Arguments<RequestInput<C, Name>, never>) => boolean
}

/** The same, blocking. */
export type CallsSync<C extends Contract, Validated extends boolean = true> = {
  readonly [Name in RequestName<C>]: (
    ...args: Arguments<RequestInput<C, Name>, CallSyncOptions>
  ) => ResponseOutput<C, Name, Validated>
}

/** A contract's client over a connection that comes back. */
export type ReconnectingClient<C extends Contract, Validated extends boolean = true> = Calls<
  C,
  Validated
> & {
  /**
   * Calls `listener` for each dispatch of this name, in order.
   *
   * @returns ends it
   */
  on<Name extends DispatchName<C>>(
    name: Name,
    listener: (value: DispatchOutput<C, Name, Validated>, sequence: number) => void,
  ): () => void
}

/** A contract's client over one connection. */
export type Client<C extends Contract, Validated extends boolean = true> = ReconnectingClient<
  C,
  Validated
> & {
  /** The connection that it was made of. */
  readonly connection: Connection
  /** The requests that are answered, blocking this thread. */
  readonly sync: CallsSync<C, Validated>
  /**
   * The server's dispatches, in order, as `connection.dispatches()`: it collects from the call on, until it is ended.
   * Those of an id that the contract does not have are passed over. One that is not what the contract says ends
   * it with `ERR_COROIPC_DISPATCH_INVALID`.
   */
  dispatches(options?: {
    readonly signal?: AbortSignal | undefined
  }): AsyncIterableIterator<Dispatched<C, Validated>, undefined> & AsyncDisposable
}

const clientChecks: Checks = { validate: boolean, validateRequests: boolean, onInvalid: callable }
const dispatchesChecks: Checks = { signal: abortSignal }
/** One object for all calls: the connection checks it once. */
const FULL = Object.freeze({ full: true } as const)

/**
 * Makes a client of a connection to the contract's service: a method for each request.
 *
 * A method passes on what `connection.request` throws, and throws besides: `ERR_COROIPC_REQUEST_INVALID` the server
 * says that the request is not what the contract says, the handler did not run ({@link ContractError});
 * `_RESPONSE_INVALID` the answer is not, the handler did run; `_STATUS` the handler answered by
 * {@link StatusError}. What the codec throws at a value that it cannot encode comes before anything is sent.
 *
 * @throws TypeError `ERR_COROIPC_INVALID_ARGUMENT`, also for a connection to another service
 * @example
 * const calc = client(await connect('demo', { service: calculator.id }), calculator)
 * const sum = await calc.add({ a: 1, b: 2 }, { timeoutMs: 100 })
 */
export function client<C extends Contract, Validated extends boolean = true>(
  connection: Connection,
  contract: C,
  options?: ClientOptions<Validated>,
): Client<C, Validated>
export function client<C extends Contract, Validated extends boolean = true>(
  connection: Reconnecting,
  contract: C,
  options?: ClientOptions<Validated>,
): ReconnectingClient<C, Validated>
export function client(
  connection: Connection | Reconnecting,
  contract: Contract,
  options: ClientOptions = {},
): Client<Contract, boolean> | ReconnectingClient<Contract, boolean> {
  checkOptions('options', options, clientChecks)
  const plain = isConnection(connection) ? connection : undefined
  if (plain !== undefined && plain.service !== contract.id)
    throw invalidArgument('connection', `one to service ${contract.id}`, plain.service)
  // Without a prototype: a request may have any name that the contract takes.
  const methods = Object.create(null) as Record<string, unknown>
  const sync = Object.create(null) as Record<string, unknown>
  for (const [name, definition] of Object.entries(contract.definition.requests ?? {})) {
    const kind = new Kind(contract, name, definition, options)
    if (kind.oneWay) methods[name] = kind.send(connection)
    else {
      methods[name] = plain === undefined ? kind.ask(connection as Reconnecting) : kind.call(plain)
      if (plain !== undefined) sync[name] = kind.callSync(plain)
    }
  }
  const incoming = new Incoming(contract, options)
  const listeners = new Listeners(connection, incoming, options.onInvalid)
  methods['on'] = (name: string, listener: Listener) => listeners.on(name, listener)
  if (plain !== undefined) {
    methods['connection'] = plain
    methods['sync'] = Object.freeze(sync)
    methods['dispatches'] = (some?: { readonly signal?: AbortSignal | undefined }) => {
      checkOptions('options', some, dispatchesChecks)
      return incoming.iterate(plain.dispatches(some))
    }
  }
  return Object.freeze(methods) as unknown as Client<Contract, boolean>
}

function isConnection(connection: Connection | Reconnecting): connection is Connection {
  return typeof (connection as Partial<Connection>).requestSync === 'function'
}

type Resolve = (value: unknown) => void
type Reject = (error: Error) => void

/** One kind of request: how it is sent, and what its answer means. */
class Kind {
  readonly oneWay: boolean
  readonly #subject: string
  readonly #id: number
  readonly #encoder: Encoder<unknown> | undefined
  readonly #receive: Receive
  /** Of requests, if they are to be validated here. */
  readonly #validate: ((value: unknown) => unknown) | undefined

  constructor(
    { definition, name: service, limits }: Contract,
    name: string,
    { id, request, response, oneWay = false }: RequestDefinition,
    { validate = true, validateRequests = false }: ClientOptions,
  ) {
    const form = formOf(request, definition)
    const schema = form?.schema
    this.oneWay = oneWay
    this.#subject = `${service}.${name}`
    this.#id = id
    this.#encoder = form?.codec
    this.#receive = receiver(formOf(response, definition), limits.responseBytes, validate)
    this.#validate =
      validateRequests && schema !== undefined
        ? (value) => validated(schema['~standard'].validate, value)
        : undefined
  }

  call(connection: Connection) {
    const send = (
      value: unknown,
      options: CallOptions | undefined,
      resolve: Resolve,
      reject: Reject,
    ): void =>
      connection.request(this.#id, this.#payload(value), full(options), (error, answer) => {
        if (error === null) this.#settle(answer, resolve, reject)
        else reject(error)
      })
    return this.#checkedFirst(
      (value, options?: CallOptions) =>
        new Promise<unknown>((resolve, reject) => {
          send(value, options, resolve, reject)
        }),
    )
  }

  /** The same over a connection that comes back, which has no callbacks. */
  ask(connection: Reconnecting) {
    return this.#checkedFirst(async (value, options?: CallOptions) => {
      const answer = await connection.request(this.#id, this.#payload(value), full(options))
      return new Promise((resolve, reject) => this.#settle(answer, resolve, reject))
    })
  }

  callSync(connection: Connection) {
    return (value: unknown, options?: CallSyncOptions): unknown => {
      this.#mustBeRight(value)
      const answer = connection.requestSync(this.#id, this.#payload(value), full(options))
      const found = this.#answered(answer)
      if (!(found instanceof Promise)) return found
      found.catch(() => {})
      throw this.#notSync('ERR_COROIPC_RESPONSE_INVALID')
    }
  }

  send(connection: Connection | Reconnecting) {
    return (value: unknown): boolean => {
      this.#mustBeRight(value)
      return connection.send(this.#id, this.#payload(value))
    }
  }

  #payload(value: unknown): Encoded | undefined {
    return this.#encoder === undefined ? undefined : new Encoded(this.#encoder, value)
  }

  #settle(answer: Answer, resolve: Resolve, reject: Reject): void {
    try {
      resolve(this.#answered(answer))
    } catch (error) {
      reject(error as Error)
    }
  }

  /** The value of an answer, or a promise of it. */
  #answered({ status, payload }: Answer): unknown {
    if (status !== 0) throw this.#statusError(status, payload)
    const value = this.#receive(payload)
    if (value instanceof Invalid) throw this.#invalid('ERR_COROIPC_RESPONSE_INVALID', value)
    if (!(value instanceof Promise)) return value
    return value.then((each: unknown) => {
      if (each instanceof Invalid) throw this.#invalid('ERR_COROIPC_RESPONSE_INVALID', each)
      return each
    })
  }

  #statusError(status: number, payload: Uint8Array): Error {
    if (status === INVALID_STATUS) {
      const issues = readIssues(payload)
      return new ContractError('ERR_COROIPC_REQUEST_INVALID', this.#subject, issues, 'server')
    }
    const text = new TextDecoder().decode(payload.subarray(0, 4 * MESSAGE_LENGTH))
    return new StatusError(status, text === '' ? undefined : text.slice(0, MESSAGE_LENGTH))
  }

  #invalid(code: ContractErrorCode, { issues, cause }: Invalid): ContractError {
    return new ContractError(code, this.#subject, issues, 'client', { cause })
  }

  // -- requests that are validated here -------------------------------------------------------------

  #checkedFirst(
    call: (value: unknown, options?: CallOptions) => Promise<unknown>,
  ): (value: unknown, options?: CallOptions) => Promise<unknown> {
    const validate = this.#validate
    if (validate === undefined) return call
    return async (value, options) => {
      const found = await validate(value)
      if (found instanceof Invalid) throw this.#unsent(found.issues, found.cause)
      return call(value, options)
    }
  }

  #mustBeRight(value: unknown): void {
    const found = this.#validate?.(value)
    if (found instanceof Invalid) throw this.#unsent(found.issues, found.cause)
    if (found instanceof Promise) {
      found.catch(() => {})
      throw this.#notSync('ERR_COROIPC_REQUEST_INVALID', false)
    }
  }

  #unsent(issues: readonly Issue[], cause: unknown): ContractError {
    const details = { cause, sent: false } as const
    return new ContractError(
      'ERR_COROIPC_REQUEST_INVALID',
      this.#subject,
      issues,
      'client',
      details,
    )
  }

  #notSync(code: ContractErrorCode, sent?: false): ContractError {
    const issues = [
      { message: 'its schema is asynchronous, which a blocking call cannot wait for' },
    ]
    return new ContractError(code, this.#subject, issues, 'client', sent === false ? { sent } : {})
  }
}

function full<Options extends object>(
  options: Options | undefined,
): (Options & { readonly full: true }) | typeof FULL {
  return options === undefined ? FULL : { ...options, full: true }
}

/** What dispatches mean, by id. */
class Incoming {
  readonly #service: string
  readonly #kinds = new Map<number, { readonly name: string; readonly receive: Receive }>()

  constructor({ name, definition, limits }: Contract, { validate = true }: ClientOptions) {
    this.#service = name
    for (const [key, { id, payload }] of Object.entries(definition.dispatches ?? {})) {
      const receive = receiver(formOf(payload, definition), limits.dispatchBytes, validate)
      this.#kinds.set(id, { name: key, receive })
    }
  }

  has(name: string): boolean {
    return [...this.#kinds.values()].some((kind) => kind.name === name)
  }

  nameOf(id: number): string | undefined {
    return this.#kinds.get(id)?.name
  }

  /** Its value; {@link Invalid}; or a promise of one of these. */
  receive({ id, payload }: Message): unknown {
    return this.#kinds.get(id)?.receive(payload)
  }

  error(id: number, { issues, cause }: Invalid): ContractError {
    const subject = `${this.#service}.${this.nameOf(id)}`
    return new ContractError('ERR_COROIPC_DISPATCH_INVALID', subject, issues, 'client', { cause })
  }

  /** Takes messages from the call on, not from its first step on: the source does so. */
  iterate(
    source: ReturnType<Connection['dispatches']>,
  ): AsyncIterableIterator<never, undefined> & AsyncDisposable {
    const step = async (): Promise<IteratorResult<unknown, undefined>> => {
      for (;;) {
        const { done, value: message } = await source.next()
        if (done === true) return { done, value: undefined }
        const { id, sequence } = message
        const name = this.nameOf(id)
        if (name === undefined) continue
        const value: unknown = await this.receive(message)
        if (!(value instanceof Invalid)) return { done: false, value: { name, value, sequence } }
        await source.return()
        throw this.error(id, value)
      }
    }
    // Validation may take its time: a step begins when the one before it is over, so order stays.
    let last: Promise<unknown> = Promise.resolve()
    const iterator = {
      next: () => {
        const own = last.then(step, step)
        last = own.catch(() => {})
        return own
      },
      return: () => source.return(),
      [Symbol.asyncDispose]: async () => {
        await source.return()
      },
      [Symbol.asyncIterator]: () => iterator,
    }
    return iterator as AsyncIterableIterator<never, undefined> & AsyncDisposable
  }
}

type Listener = (value: unknown, sequence: number) => void

/** Listeners by name. The connection has one of ours while there are any: its listeners decide who gets dispatches. */
class Listeners {
  readonly #connection: Connection | Reconnecting
  readonly #incoming: Incoming
  readonly #onInvalid: ((error: ContractError) => void) | undefined
  readonly #byName = new Map<string, Set<Listener>>()
  /** Messages that are validated asynchronously, and those that wait behind them. */
  #waiting = 0
  #last: Promise<void> | undefined
  #warned = false

  constructor(
    connection: Connection | Reconnecting,
    incoming: Incoming,
    onInvalid: ((error: ContractError) => void) | undefined,
  ) {
    this.#connection = connection
    this.#incoming = incoming
    this.#onInvalid = onInvalid
  }

  on(name: string, listener: Listener): () => void {
    if (!this.#incoming.has(name)) throw invalidArgument('name', 'a dispatch of the contract', name)
    callable('listener', listener)
    // Of its own for each call: the same function may listen twice, and each ends for itself.
    const own: Listener = (value, sequence) => listener(value, sequence)
    const others = this.#byName.get(name) ?? new Set()
    others.add(own)
    this.#byName.set(name, others)
    if (this.#count() === 1) (this.#connection as Connection).on('dispatch', this.#take)
    return () => {
      if (!others.delete(own)) return
      if (this.#count() === 0) (this.#connection as Connection).off('dispatch', this.#take)
    }
  }

  #count(): number {
    let count = 0
    for (const each of this.#byName.values()) count += each.size
    return count
  }

  readonly #take = (message: Message): void => {
    const name = this.#incoming.nameOf(message.id)
    const listeners = name === undefined ? undefined : this.#byName.get(name)
    if (listeners === undefined || listeners.size === 0) return
    const value = this.#incoming.receive(message)
    if (this.#waiting === 0 && !(value instanceof Promise)) {
      this.#tell(listeners, message, value)
      return
    }
    this.#waiting++
    this.#last = this.#inTurn(this.#last, listeners, message, value)
  }

  /** What a listener throws surfaces as any uncaught exception, and the next message comes all the same. */
  async #inTurn(
    before: Promise<void> | undefined,
    listeners: ReadonlySet<Listener>,
    message: Message,
    value: unknown,
  ): Promise<void> {
    await before
    const found: unknown = await value
    queueMicrotask(() => {
      this.#waiting--
      this.#tell(listeners, message, found)
    })
  }

  #tell(listeners: ReadonlySet<Listener>, { id, sequence }: Message, value: unknown): void {
    if (!(value instanceof Invalid)) {
      for (const listener of listeners) listener(value, sequence)
      return
    }
    const error = this.#incoming.error(id, value)
    if (this.#onInvalid !== undefined) this.#onInvalid(error)
    else if (!this.#warned) {
      this.#warned = true
      process.emitWarning(error.message, { type: 'CoroipcClientError', code: error.code })
    }
  }
}
