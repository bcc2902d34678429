/** The server: listens under a name, lets clients in, and runs the handlers of its services. */
import { closeSync } from 'node:fs'
import type {
  Check,
  Checks,
  Credentials,
  LatencyStats,
  Stats,
  StatsOptions,
  Wait,
} from '@coroipc/native'
import {
  addon,
  boolean,
  callable,
  checkOptions,
  integer,
  invalidArgument,
  IpcError,
  Latency,
  localServers,
  milliseconds,
  nameError,
  nativeError,
  nested,
  oneOf,
  policyCodes,
  priorityCodes,
  statsChecks,
  TIMEOUT_MS_MAX,
  waitCode,
} from '@coroipc/native'
import { EventEmitter } from 'eventemitter3'
import type { Connection } from './connection.js'
import { errorChannel, logChannel } from './diagnostics.js'
import { inspectChecks, Inspection, type InspectOptions } from './inspection.js'
import { type InheritedSocket, listeningOn } from './inherited.js'
import { listenNatively } from './listening.js'
import { defaultLimits, limitChecks, type Limits } from './limits.js'
import { checkLog, levelName, type Log } from './log.js'
import { Mutex } from './mutex.js'
import { type BuiltInPoll, checkPoll, type Poll, uvPoll } from './poll.js'
import { type ErrorSource, isolated, ServerLoop } from './server-loop.js'
import { type Handler, ID_MAX, rateCode, Service, type ServiceOptions } from './service.js'
import { ShardSocket } from './shard-socket.js'

/** What `new Server` takes; all of it may be left out. */
export interface ServerOptions<Context = unknown> {
  /**
   * Lets a peer in or not, by what the kernel says about it. Anything but `true` refuses, and so do an
   * exception, a rejection and `authorizeTimeoutMs` of silence: the client gets `ERR_COROIPC_DENIED`
   * and has never seen memory. Default: the server's own effective uid, and root.
   */
  readonly authorize?:
    | ((credentials: Credentials, service: number) => boolean | PromiseLike<boolean>)
    | undefined
  /** Bounds; each has a default: {@link Limits}. */
  readonly limits?: { readonly [Name in keyof Limits]?: Limits[Name] | undefined } | undefined
  /**
   * Your own selector: asked first, for every request. Undefined leaves it to the service's `handlers`.
   * With it, services that were never added are served as well.
   */
  readonly select?:
    | ((
        service: number,
        id: number,
        connection: Connection<Context>,
      ) => Handler<Context> | undefined)
    | undefined
  /** How long to look at the rings before sleeping. Default `'adaptive'`. */
  readonly wait?: Wait | undefined
  /** `uvPoll()` (default), `blockingPoll()`, or a poll system of your own. */
  readonly poll?: BuiltInPoll | Poll | undefined
  /** Where to tell what happens. Default: nowhere. */
  readonly log?: Log | undefined
  /** One handler or hook at a time in the whole server; a service may say otherwise. Default false. */
  readonly serialize?: boolean | undefined
  /** Record latencies, receive to answer: `stats().latency`. Costs about 0.1 us a request. Default false. */
  readonly latency?: boolean | undefined
  /** Silence of `authorize` that refuses. Default 5000. */
  readonly authorizeTimeoutMs?: number | undefined
  /** Time a peer has for its handshake. Default 5000. */
  readonly handshakeTimeoutMs?: number | undefined
  /** Ask `authorize` also about uid 65534, a user unknown to this namespace. Default false: refused. */
  readonly allowUnmapped?: boolean | undefined
  /** Allocate the ring pages of a connection when it is made, and lock them where limits let us. Default false. */
  readonly prefault?: boolean | undefined
  /**
   * Offers one service more, 65535 unless it says otherwise, which tells tools what this server does: its
   * services, connections and counters. `authorize` is asked who may connect to it. Default false.
   */
  readonly inspect?: boolean | InspectOptions | undefined
  /**
   * Keep rings and segments in memory, mlock(2): never swapped, never faulted in. `true` demands it: `new Server` throws
   * where it cannot be had (`ulimit -l`, LimitMEMLOCK=), and a connection beyond the limit is refused with
   * `ERR_COROIPC_NO_MEMORY`. `'try'`: as far as it goes. Default false.
   */
  readonly lock?: boolean | 'try' | undefined
  /**
   * Huge pages for segments of 2 MiB and more, that is for large messages and buffers: MADV_COLLAPSE, Linux 6.1, no pool to
   * reserve. `true` demands them, `'try'` takes them where they can be had. Default false.
   */
  readonly hugePages?: boolean | 'try' | undefined
}

/** Events of a {@link Server}. */
export interface ServerEvents<Context = unknown> {
  /** It listens; the address is `server.address`. */
  listening: []
  /** A client is connected; its `onConnect` was called. */
  connection: [connection: Connection<Context>]
  /** A client is gone; its `onDisconnect` is about to be called. */
  disconnect: [connection: Connection<Context>, reason: IpcError]
  /**
   * A handler or hook failed (its message begins with the hook's name, `error.cause` is what it threw),
   * or an answer was none. Nothing ends by it. Without a listener it goes to `log`; without that, it is a
   * process warning.
   */
  error: [error: IpcError, source: ErrorSource<Context>]
  /** `close` is done. */
  close: []
}

/** Counters of a server. */
export interface ServerStats extends Stats {
  /** Receive to answer, microseconds. Only with the option `latency`. */
  readonly latency?: LatencyStats
}

/** How a server is: what `server.health` says. */
export interface Health {
  /** Before `listen`; listening; between `close` and its end; closed. */
  readonly state: 'starting' | 'serving' | 'draining' | 'closed'
  /** Clients that are connected. */
  readonly connections: number
  /** Clients that are on their way in. */
  readonly handshakesPending: number
  /** Requests without an answer. */
  readonly inFlight: number
  /** Milliseconds since the oldest of them was given to its handler, as far as a handler has returned; 0: there is none. */
  readonly oldestRequestMs: number
  /** Answers that found no room: clients that do not read. */
  readonly unsentResponses: number
  /** Dispatches that found no room. */
  readonly backlogMessages: number
  /** Part of the time that this thread was busy since the last call, 0 to 1. A thread that is asked late was blocked. */
  readonly loopUtilization: number
}

/** What `server.close` takes. */
export interface CloseOptions {
  /** Time for requests that are being handled, `onDisconnect` promises and holds. Default 5000. */
  readonly timeoutMs?: number | undefined
  /** Leave the name to a successor, and every request that was not read. Default false. */
  readonly handOver?: boolean | undefined
}

/** What `server.process` says: armed and safe to sleep on the fd, or there is more to do. */
export type Progress = 'idle' | 'more'

const wish: Check = (name, value) => {
  if (typeof value !== 'boolean' && value !== 'try')
    throw invalidArgument(name, "true, false or 'try'", value)
}
/** COROIPCS_WISH_*. */
const wishCode = (value: boolean | 'try' | undefined): number =>
  value === 'try' ? 1 : value === true ? 2 : 0

const checks: Checks = {
  authorize: callable,
  limits: nested(limitChecks),
  select: callable,
  wait: oneOf('adaptive', 'spin', 'sleep'),
  poll: checkPoll,
  log: checkLog,
  serialize: boolean,
  latency: boolean,
  authorizeTimeoutMs: integer(1, TIMEOUT_MS_MAX),
  handshakeTimeoutMs: integer(1, TIMEOUT_MS_MAX),
  allowUnmapped: boolean,
  prefault: boolean,
  inspect: (name, value) => {
    if (typeof value !== 'boolean') checkOptions(name, value, inspectChecks)
  },
  lock: wish,
  hugePages: wish,
}
const closeChecks: Checks = { timeoutMs: milliseconds, handOver: boolean }
const runChecks: Checks = { timeoutMs: milliseconds }
const processChecks = milliseconds
const checkId = integer(0, ID_MAX)

/** Time that a custom poll is looked after when nothing happens: deadlines are noticed by it. */
const TICK_MS = 100
/** Time after which a worker of a shard looks what became of handshakes. */
const COUNT_AGAIN_MS = 500

const sameUserOrRoot = ({ uid }: Credentials): boolean => uid === 0 || uid === process.geteuid?.()

/**
 * A coroipc server. Several may live in one process, and in worker threads.
 *
 * It serves once `listen` was called, and keeps the process alive until it is closed or `unref` was
 * called. Clients that die or misbehave end their own connection and nothing else.
 *
 * @example
 * const server = new Server({ log })
 * server.addService({ id: 7, handlers: { 0: (request) => request.payload } })
 * await server.listen('demo')
 */
export class Server<Context = unknown> extends EventEmitter<ServerEvents<Context>> {
  readonly #core: ServerLoop<Context>
  readonly #log: Log | undefined
  readonly #poll: BuiltInPoll | Poll
  readonly #limits: Limits
  readonly #mutex: Mutex | undefined
  readonly #inspection: Inspection<Context> | undefined
  #address: string | undefined
  #shard: ReturnType<ShardSocket['listen']> | undefined
  #countAgain: NodeJS.Timeout | undefined
  #utilization = performance.eventLoopUtilization()
  #attached = false
  #refed = true
  #running = false
  #stopping = false
  #fault: { error: unknown } | undefined
  #closing: Promise<void> | undefined
  #onProgress: (() => void) | undefined
  #tick: NodeJS.Timeout | undefined
  #turn: NodeJS.Immediate | undefined

  /** @throws TypeError or RangeError `ERR_COROIPC_INVALID_ARGUMENT`, `ERR_COROIPC_SYSTEM`. */
  constructor(options: ServerOptions<Context> = {}) {
    super()
    checkOptions('options', options, checks)
    const limits: Limits = { ...defaultLimits, ...definedOnly(options.limits) }
    if (limits.ringBytesMin > limits.ringBytesMax)
      throw invalidArgument(
        'limits.ringBytesMin',
        `at most ringBytesMax (${limits.ringBytesMax})`,
        limits.ringBytesMin,
      )
    if (limits.messageBytesMin > limits.messageBytes)
      throw invalidArgument(
        'limits.messageBytesMin',
        `at most messageBytes (${limits.messageBytes})`,
        limits.messageBytesMin,
      )
    this.#limits = limits
    this.#log = options.log
    this.#poll = options.poll ?? uvPoll()
    this.#mutex = options.serialize === true ? new Mutex() : undefined
    const poll = this.#poll
    this.#inspection = this.#inspectionOf(options)
    this.#core = new ServerLoop<Context>(
      {
        authorize: options.authorize ?? sameUserOrRoot,
        select: this.#selectOf(options.select),
        anyService: new Service<Context>({ id: 0 }, this.#mutex, true),
        latency: options.latency === true ? new Latency() : undefined,
        native: {
          ...limits,
          wait: waitCode(options.wait ?? 'adaptive') as number,
          anyService: options.select !== undefined,
          allowUnmapped: options.allowUnmapped ?? false,
          prefault: options.prefault ?? false,
          lock: wishCode(options.lock),
          hugePages: wishCode(options.hugePages),
          acceptRows: false,
          authorizeTimeoutMs: options.authorizeTimeoutMs ?? 5000,
          handshakeTimeoutMs: options.handshakeTimeoutMs ?? 5000,
        },
        poll:
          'kind' in poll
            ? undefined
            : {
                acceptAdd: (fd, cookie) => this.#guard(() => poll.acceptAdd(fd, cookie)),
                dispatchAdd: (fd, events, cookie) =>
                  this.#guard(() => poll.dispatchAdd(fd, events, cookie)),
                dispatchModify: (fd, events, cookie) =>
                  this.#guard(() => poll.dispatchModify(fd, events, cookie)),
                dispatchDestroy: (fd, cookie) =>
                  this.#guard(() => poll.dispatchDestroy(fd, cookie)),
              },
      },
      {
        connection: (connection) => {
          this.#log?.debug(
            {
              connection: connection.id,
              service: connection.service,
              pid: connection.credentials.pid,
            },
            'client connected',
          )
          this.#inspection?.connected(connection)
          this.#countShard()
          this.#guard(() => this.emit('connection', connection))
        },
        disconnect: (connection, reason) => {
          this.#log?.debug({ connection: connection.id, code: reason.code }, 'client gone')
          this.#inspection?.disconnected(connection)
          this.#countShard()
          this.#guard(() => this.emit('disconnect', connection, reason))
        },
        denied: ({ pid, uid, gid }, service) =>
          this.#log?.warn({ pid, uid, gid, service }, 'client refused'),
        error: (error, source) => this.#report(error, source),
        log: (level, text) => {
          if (logChannel.hasSubscribers) logChannel.publish({ level, message: text })
          this.#guard(() => this.#log?.[levelName(level)]({}, text))
        },
        progress: () => this.#onProgress?.(),
      },
    )
    if (this.#inspection !== undefined) this.addService(this.#inspection.serviceOptions)
  }

  #inspectionOf(options: ServerOptions<Context>): Inspection<Context> | undefined {
    const { inspect = false, wait = 'adaptive', serialize, latency, prefault, select } = options
    if (inspect === false) return undefined
    const core = (): ServerLoop<Context> => this.#core
    return new Inspection<Context>(inspect === true ? {} : inspect, {
      limits: this.#limits,
      options: {
        wait,
        poll: 'kind' in this.#poll ? this.#poll.kind : 'custom',
        serialize: serialize ?? false,
        latency: latency ?? false,
        prefault: prefault ?? false,
        select: select !== undefined,
      },
      get services() {
        return core().services
      },
      get connections() {
        return core().connections
      },
      address: () => this.#address,
      record: (recorder) => {
        core().recorder = recorder
      },
      stats: (wanted) => this.stats(wanted),
    })
  }

  /** The developer's selector, which is not asked what tools ask. */
  #selectOf(select: ServerOptions<Context>['select']): ServerOptions<Context>['select'] {
    const own = this.#inspection?.service
    if (own === undefined || select === undefined) return select
    return (service, id, connection) =>
      service === own ? undefined : select(service, id, connection)
  }

  /** The path or `@name` it listens on; undefined before `listen` and after `close`. */
  get address(): string | undefined {
    return this.#address
  }

  /** True from `listen` to `close`. */
  get listening(): boolean {
    return this.#address !== undefined
  }

  /**
   * The one fd of this server: level-readable while there is work for `process()`. For loops that are not
   * libuv; with a `Poll` of your own it is -1. Owned by the server: do not read or close it.
   */
  get fd(): number {
    return this.#core.destroyed ? -1 : addon.fd(this.#core.loop.handle)
  }

  /**
   * Offers a service. May be called at any time before `close`; clients that connected before stay as
   * they are. TypeScript takes the type of `connection.context` from what the service's `context` returns,
   * for each service by itself; a `Server<Context>` that names one means it for all of them.
   *
   * @returns this server
   * @throws TypeError or RangeError `ERR_COROIPC_INVALID_ARGUMENT`: a wrong or unknown option, an id that
   *   is offered already.
   */
  // Own is inferred from the options, by what `context` returns: that is its use.
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  addService<Own = Context>(
    options: ServiceOptions<unknown extends Context ? Own : Context>,
  ): this {
    this.#checkOpen('addService')
    // Which context goes with which service is known to its own hooks only; nobody here looks at one.
    const own = options as unknown as ServiceOptions<Context>
    const service = new Service<Context>(own, this.#mutex)
    if (this.#core.services.has(service.id)) {
      const expected =
        service.id === this.#inspection?.service
          ? 'an id that the option inspect does not use (inspect: { service } names another)'
          : 'an id that is not offered yet'
      throw invalidArgument('service.id', expected, service.id)
    }
    const result = addon.serviceAdd(this.#core.loop.handle, service.id, {
      policy: policyCodes[options.backlogPolicy ?? 'error'],
      priority: priorityCodes[options.priority ?? 'normal'],
      requestsPerSecond: rateCode(options.requestsPerSecond ?? Infinity),
      backlogBytes: options.backlogBytes ?? this.#limits.backlogBytes,
    })
    if (result < 0) throw nativeError(result, { subject: `addService ${service.id}` })
    this.#core.services.set(service.id, service)
    return this
  }

  /**
   * Listens. The socket exists and clients may connect when the promise is fulfilled; it does so without
   * waiting for anything.
   *
   * @param name `'demo'`: /run/coroipc/demo if that is writable, else $XDG_RUNTIME_DIR/coroipc/demo;
   *   `'@demo'`: the abstract namespace; `'/a/b.sock'`: that path; `{ fd }`: an inherited listening
   *   AF_UNIX SOCK_SEQPACKET socket, the server's own afterwards; what `inherited` gives, and
   *   in a worker of `shard` what `shardSocket` gives
   * @throws `ERR_COROIPC_ADDRESS_IN_USE` while another server lives there; `ERR_COROIPC_SYSTEM`;
   *   `ERR_COROIPC_INVALID_ARGUMENT`. A dead server's socket is replaced; what is no socket of ours
   *   is never unlinked.
   */
  async listen(name: string | InheritedSocket | ShardSocket): Promise<void> {
    this.#checkOpen('listen')
    if (this.#address !== undefined)
      throw invalidArgument('listen', 'a server that does not listen yet', this.#address, 'type')
    const { handle } = this.#core.loop
    if (name instanceof ShardSocket) {
      this.#address = name.address
      this.#shard = name.listen({
        adopt: (fd) => {
          if (this.#core.destroyed) closeSync(fd)
          else {
            addon.serverAdopt(handle, fd)
            this.#countShard()
          }
        },
        close: (options) => this.close(options),
      })
    } else {
      const result = listenNatively(handle, name)
      if (result < 0) {
        if (typeof name === 'string') throw nameError(result, name, `listen '${name}'`)
        throw nameError(result, name.fd, `listen { fd: ${name.fd} }`)
      }
      this.#address = addon.serverAddress(handle)
    }
    localServers.add(this.#address)
    this.#inspection?.listening()
    if ('kind' in this.#poll) {
      if (this.#poll.kind === 'uv') {
        const attached = addon.attach(handle)
        if (attached < 0) throw nativeError(attached, { subject: 'listen' })
        this.#attached = true
        if (!this.#refed) addon.unref(handle)
      }
    } else {
      this.#tick = setInterval(() => this.#pumpSome(), TICK_MS)
      this.#tick.unref()
    }
    this.#log?.info({ address: this.#address }, 'listening')
    if (typeof name === 'object' && !(name instanceof ShardSocket)) listeningOn(name)
    this.#guard(() => this.emit('listening'))
  }

  /** @internal What `handOver` gives to the next process. */
  get listener(): { readonly address: string; readonly fd: number; readonly lock: number } {
    if (this.#address === undefined)
      throw invalidArgument('servers', 'servers that listen', this.#address, 'type')
    const [fd, lock] = addon.serverListenFds(this.#core.loop.handle)
    return { address: this.#address, fd, lock }
  }

  /** The connections that are open now, each once. */
  *connections(): IterableIterator<Connection<Context>> {
    for (const connection of this.#core.connections.slice()) {
      if (connection !== undefined && !connection.closed) yield connection
    }
  }

  /** Counters of the whole server. @throws `ERR_COROIPC_DISCONNECTED` when it is closed. */
  stats(options?: StatsOptions): ServerStats {
    checkOptions('options', options, statsChecks)
    const clear = options?.clear ?? false
    if (this.#core.destroyed) throw closedError('stats')
    const stats = this.#core.readStats(-1, clear)
    const { latency } = this.#core
    return latency === undefined ? stats : { ...stats, latency: latency.read(options) }
  }

  /**
   * How the server is, in any state: for a probe, or a metric. Reads counters that are kept anyway. That it answers at all says
   * that the thread is not blocked: ask from outside, by `probe` of `@coroipc/ipcc` or `coroipc health`.
   */
  health(): Health {
    const core = this.#core
    const utilization = performance.eventLoopUtilization()
    const since = performance.eventLoopUtilization(utilization, this.#utilization)
    this.#utilization = utilization
    const stats = core.destroyed ? undefined : core.readStats(-1, false)
    const state =
      this.#closing === undefined
        ? this.#address === undefined
          ? 'starting'
          : 'serving'
        : 'draining'
    return {
      state: core.destroyed ? 'closed' : state,
      connections: stats?.connections ?? 0,
      handshakesPending: stats?.handshakesPending ?? 0,
      inFlight: stats?.inFlight ?? 0,
      oldestRequestMs: core.destroyed ? 0 : core.oldestMs(),
      unsentResponses: stats?.unsentResponses ?? 0,
      backlogMessages: stats?.backlogMessages ?? 0,
      loopUtilization: since.utilization,
    }
  }

  /**
   * Takes a service away: its clients are disconnected, later ones get `ERR_COROIPC_NO_SERVICE`. Fulfilled
   * when the last `onDisconnect` is done and nobody holds one of its connections.
   *
   * @throws RangeError `ERR_COROIPC_INVALID_ARGUMENT` if it is not offered
   */
  async closeService(id: number): Promise<void> {
    checkId('id', id)
    const service = this.#core.services.get(id)
    if (service === undefined) throw invalidArgument('id', 'a service that was added', id)
    this.#core.services.delete(id)
    this.#core.loop.flush()
    const mine = (): boolean =>
      this.#core.connections.some((connection) => connection?.home === service)
    while (!this.#core.destroyed) {
      const held = addon.serviceClose(this.#core.loop.handle, id)
      this.#pumpUnattached()
      if (held === 0 && !mine()) return
      await this.#nextProgress(20)
    }
  }

  /**
   * Closes the server: it stops listening, answers new requests with `ERR_COROIPC_RETRY`, and waits up
   * to `timeoutMs` for requests that are being handled; then it disconnects every client
   * (`ERR_COROIPC_DISCONNECTED`) and waits, within the same time, for `onDisconnect` promises and holds.
   * What is not done by then is let go. Never rejects; further calls return the same promise. A handler
   * that awaits it waits for itself, until the time is up.
   *
   * With `handOver` nothing is answered RETRY: each client is disconnected as soon as nothing of it is being handled, and
   * what it asks meanwhile stays unread, which its client knows as never handed over. For a server whose successor has
   * the listening socket already, or will get it from systemd.
   *
   * @param options.timeoutMs default 5000; 0 waits for nothing
   * @param options.handOver somebody else has the name, or will: leave it. Default false
   */
  close(options?: CloseOptions): Promise<void> {
    checkOptions('options', options, closeChecks)
    this.#closing ??= this.#close(options?.timeoutMs ?? 5000, options?.handOver ?? false)
    return this.#closing
  }

  async #close(timeoutMs: number, handOver: boolean): Promise<void> {
    const core = this.#core
    const { handle } = core.loop
    const until = performance.now() + timeoutMs
    const left = (): number => until - performance.now()
    core.closing = !handOver
    core.watched = true
    this.#stopping = true
    if (this.#address !== undefined) localServers.delete(this.#address)
    this.#address = undefined
    if (handOver) addon.serverListenLeave(handle)
    else addon.serverListenStop(handle)
    // A handler that closes its own server still answers.
    if (core.loop.inBatch) await new Promise(setImmediate)
    const busy = handOver ? (): boolean => core.leave() : (): boolean => core.awaited > 0
    while (busy() && left() > 0) {
      this.#pumpUnattached()
      if (busy()) await this.#nextProgress(Math.min(left(), handOver ? 5 : 50))
    }
    core.closing = true
    core.loop.flush()
    addon.serverClose(handle)
    // Rows still come, through libuv, a loop that runs below us, or these turns.
    if (!core.loop.inBatch) this.#pump(1000)
    else await new Promise(setImmediate)
    this.#pumpUnattached()
    while (core.alive > 0 && left() > 0) {
      await this.#nextProgress(Math.min(left(), 50))
      this.#pumpUnattached()
    }
    while (core.loop.inBatch || this.#running) await new Promise(setImmediate)
    clearInterval(this.#tick)
    clearImmediate(this.#turn)
    if (this.#attached) addon.detach(handle)
    core.destroy()
    this.#shard?.closed()
    this.#log?.info({}, 'closed')
    this.#guard(() => this.emit('close'))
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Keeps the process alive while it listens (the default). */
  ref(): this {
    this.#refed = true
    if (this.#attached && !this.#core.destroyed) addon.ref(this.#core.loop.handle)
    return this
  }

  /** Lets the process end although it listens. */
  unref(): this {
    this.#refed = false
    if (this.#attached && !this.#core.destroyed) addon.unref(this.#core.loop.handle)
    return this
  }

  /**
   * Handles what is there. For loops that watch `server.fd`, and after `handlerAccept` and
   * `handlerDispatch` returned `'more'`.
   *
   * @param maxMs go on for at most so long while there is more; 0 (default): one bounded turn
   * @returns `'idle'`: armed, safe to sleep on the fd. `'more'`: call again.
   * @throws `ERR_COROIPC_INVALID_ARGUMENT` from inside a handler
   */
  process(maxMs = 0): Progress {
    processChecks('maxMs', maxMs)
    if (this.#core.destroyed) return 'idle'
    if (this.#core.loop.inBatch)
      throw invalidArgument('process', 'a call from outside a handler', 'one inside it')
    return this.#pump(maxMs)
  }

  /**
   * With a `Poll` of your own: the listening socket with this cookie is readable.
   *
   * @returns as `process`
   */
  handlerAccept(cookie: number): Progress {
    return this.#handler(() => addon.handlerAccept(this.#core.loop.handle, cookie))
  }

  /**
   * With a `Poll` of your own: the fd with this cookie is ready; `revents` as from poll(2).
   *
   * @returns as `process`
   */
  handlerDispatch(cookie: number, revents: number): Progress {
    return this.#handler(() => addon.handlerDispatch(this.#core.loop.handle, cookie, revents))
  }

  #handler(call: () => number): Progress {
    if (this.#core.destroyed) return 'idle'
    if (this.#core.loop.inBatch) {
      this.#turn ??= setImmediate(() => this.#pumpSome())
      return 'more'
    }
    call()
    return this.#pumpSome()
  }

  /** One turn, and the next by itself where libuv runs. */
  #pumpSome(): Progress {
    this.#turn = undefined
    if (this.#core.destroyed || this.#core.loop.inBatch) return 'idle'
    const progress = this.#pump(0)
    if (progress === 'more') this.#turn ??= setImmediate(() => this.#pumpSome())
    return progress
  }

  #pump(maxMs: number): Progress {
    const { loop } = this.#core
    loop.flush()
    let more = addon.pump(loop.handle)
    if (more === 1 && maxMs > 0) {
      const until = performance.now() + maxMs
      do more = addon.pump(loop.handle)
      while (more === 1 && performance.now() < until)
    }
    return more === 1 ? 'more' : 'idle'
  }

  /** Where no loop of ours would bring the rows. */
  #pumpUnattached(): void {
    if (this.#attached || this.#running || this.#core.destroyed || this.#core.loop.inBatch) return
    this.#pump(1000)
  }

  /**
   * Serves in a blocking loop until `stop` is called (by a handler or hook) or the time is up: for a
   * process or worker that does nothing else. Needs `poll: blockingPoll()`. Promises cannot settle in
   * it: a handler that returns one is answered `ERR_COROIPC_HANDLER_ASYNC`. A worker that is
   * terminated leaves it within 100 ms.
   *
   * @param options.timeoutMs default Infinity
   * @throws what a listener of this server threw; `ERR_COROIPC_ABORTED` when the worker terminates
   */
  run(options?: { readonly timeoutMs?: number | undefined }): void {
    checkOptions('options', options, runChecks)
    this.#checkOpen('run')
    if (!('kind' in this.#poll) || this.#poll.kind !== 'blocking')
      throw invalidArgument('run', 'a server with poll: blockingPoll()', this.#poll)
    if (this.#running || this.#core.loop.inBatch)
      throw invalidArgument('run', 'a call from outside a handler', 'one inside it')
    const timeoutMs = options?.timeoutMs ?? Infinity
    const { loop } = this.#core
    const until = performance.now() + timeoutMs
    this.#running = true
    this.#core.running = true
    this.#stopping = false
    try {
      while (!this.#isStopping()) {
        const left = until - performance.now()
        if (left <= 0) return
        loop.flush()
        const result = addon.wait(loop.handle, left > 0x7fffffff ? -1 : Math.ceil(left))
        if (result < 0) throw nativeError(result, { subject: 'run' })
        if (result === 1) addon.pump(loop.handle)
        if (this.#fault !== undefined) {
          const { error } = this.#fault
          this.#fault = undefined
          throw error
        }
      }
    } finally {
      this.#running = false
      this.#core.running = false
    }
  }

  #isStopping(): boolean {
    return this.#stopping
  }

  /** Ends `run` after the current batch. */
  stop(): void {
    this.#stopping = true
  }

  /**
   * Whoever accepts for this worker gives the next socket to the one with the fewest. Those that are on their way to be a
   * connection count as well, or many at once would be told apart by chance. That one of them failed nobody says: it is looked for.
   */
  #countShard(): void {
    if (this.#shard === undefined || this.#core.destroyed) return
    const { connections, handshakesPending } = this.#core.counts()
    this.#shard.connections(connections + handshakesPending)
    if (handshakesPending === 0 || this.#countAgain !== undefined) return
    this.#countAgain = setTimeout(() => {
      this.#countAgain = undefined
      this.#countShard()
    }, COUNT_AGAIN_MS).unref()
  }

  #checkOpen(subject: string): void {
    if (this.#closing !== undefined) throw closedError(subject)
  }

  /** Runs a listener: what it throws surfaces as an uncaught exception, or out of `run`. */
  #guard(call: () => void): void {
    if (!this.#running) {
      isolated(call)
      return
    }
    try {
      call()
    } catch (error) {
      this.#fault ??= { error }
    }
  }

  #report(error: IpcError, source: ErrorSource<Context>): void {
    if (errorChannel.hasSubscribers) errorChannel.publish({ error, ...source })
    this.#log?.error({ err: error, connection: source.connection?.id }, error.message)
    if (this.listenerCount('error') > 0) this.#guard(() => this.emit('error', error, source))
    else if (this.#log === undefined) {
      // Not thrown: a request that makes a handler fail must not end the server. Not lost either.
      const { cause } = error
      const detail = cause instanceof Error ? cause.stack : error.stack
      process.emitWarning(error.message, {
        type: 'CoroipcServerError',
        code: error.code,
        ...(detail === undefined ? {} : { detail }),
      })
    }
  }

  #nextProgress(maxMs: number): Promise<void> {
    return new Promise((resolve) => {
      const before = this.#onProgress
      const done = (): void => {
        clearTimeout(timer)
        this.#onProgress = before
        before?.()
        resolve()
      }
      const timer = setTimeout(done, Math.max(1, maxMs))
      this.#onProgress = done
    })
  }
}

/** The code of what is closed; the words of the table are about a connection. */
function closedError(subject: string): IpcError {
  return new IpcError('ERR_COROIPC_DISCONNECTED', `${subject}: the server is closed`)
}

/** `T` without its undefined members. */
type Defined<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> }

function definedOnly<T extends object>(options: T | undefined): Defined<T> {
  if (options === undefined) return {}
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as Defined<T>
}
