/**
 * Spans for OpenTelemetry, by the tracing channels: of each request on both sides and, if wanted, of dispatches; and
 * the trace context that carries a trace from one process to the other (trace-header.ts).
 *
 * Handlers run in the context of their span, callbacks in that of their call: what they do is part of the trace.
 */
import type { DispatchTrace as ReceivedTrace, Message } from '@coroipc/ipcc'
import type { DispatchTrace as SentTrace } from '@coroipc/ipcs'
import { boolean, callable, type Check, checkOptions, invalidArgument } from '@coroipc/native'
import {
  type Attributes,
  context,
  type Context,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace as api,
  type Tracer,
  type TracerProvider,
} from '@opentelemetry/api'
import { type ClientTrace, type Outcome, type ServerTrace, Subscriptions } from './subscriptions.js'
import { decodeHeader, encodeHeader, HEADER_BYTES, TRACED, withHeader } from './trace-header.js'

/** What {@link traceRequests} takes. */
export interface TracingOptions {
  /** Default: the global one, as the API knows it when a span begins. */
  readonly tracerProvider?: TracerProvider | undefined
  /**
   * Carry the trace context to the other process, or take it from there: for all services, or for those that this
   * says. Both sides have to: a server that does not has no handler for such a request. Servers first, then, when
   * it is introduced: they take requests with and without. Ids of these services are below 32768. Default false.
   */
  readonly propagate?: boolean | ((service: number) => boolean) | undefined
  /** Spans of dispatches as well: of kind PRODUCER and CONSUMER. Default false. */
  readonly dispatches?: boolean | undefined
  /** Methods by name, such as `texts/upper`: as in a service's `description`. Default: `7/0`. */
  readonly names?: ((service: number, id: number) => string | undefined) | undefined
}

const SYSTEM = 'coroipc'
const provider: Check = (name, value) => {
  const { getTracer } = (value ?? {}) as Partial<TracerProvider>
  if (typeof getTracer !== 'function') throw invalidArgument(name, 'a TracerProvider', value)
}
const checks = {
  tracerProvider: provider,
  propagate: ((name, value) => {
    if (typeof value !== 'function') boolean(name, value)
  }) satisfies Check,
  dispatches: boolean,
  names: callable,
}

/** Outcomes that are no fault of the server. */
const clientsOwn: ReadonlySet<string> = new Set(
  ['NO_HANDLER', 'RETRY', 'REFUSED', 'TIMED_OUT', 'ABORTED', 'DISCONNECTED', 'PEER_DEAD'].map(
    (name) => `ERR_COROIPC_${name}`,
  ),
)

/** The instrumentation, while it lasts. */
export interface Instrumentation {
  /** No more spans; those that are open end as they would have. */
  stop(): void
}

/**
 * Makes a span of every request that this process makes or serves from now on.
 *
 * @throws TypeError `ERR_COROIPC_INVALID_ARGUMENT`
 * @example
 * const provider = new NodeTracerProvider({ spanProcessors })
 * provider.register()
 * traceRequests({ propagate: true })
 */
export function traceRequests(options: TracingOptions = {}): Instrumentation {
  checkOptions('options', options, checks)
  return new Spans(options)
}

class Spans implements Instrumentation {
  readonly #options: TracingOptions
  readonly #subscriptions = new Subscriptions()
  readonly #spans = new WeakMap<object, Span>()

  constructor(options: TracingOptions) {
    this.#options = options
    const subscriptions = this.#subscriptions
    const client = 'coroipc:client:request'
    subscriptions.on(client, 'start', (trace: ClientTrace) => this.#requested(trace))
    subscriptions.requestsOver('client', (trace, outcome) => this.#over(trace, outcome, true))
    const server = 'coroipc:server:request'
    subscriptions.on(server, 'start', (trace: ServerTrace) => this.#received(trace))
    subscriptions.requestsOver('server', (trace, outcome) =>
      this.#over(trace, outcome, !clientsOwn.has(outcome.code)),
    )
    if (options.dispatches !== true) return
    const sent = 'coroipc:server:dispatch'
    subscriptions.on(sent, 'start', (trace: SentTrace) => this.#dispatched(trace))
    subscriptions.on(sent, 'end', (trace: SentTrace) => this.#handed(trace))
    const came = 'coroipc:client:dispatch'
    subscriptions.on(came, 'start', (trace: ReceivedTrace) => this.#came(trace))
    subscriptions.on(came, 'end', (trace: ReceivedTrace) => this.#handed(trace))
  }

  stop(): void {
    this.#subscriptions.end()
  }

  get #tracer(): Tracer {
    const { tracerProvider } = this.#options
    return (tracerProvider ?? api.getTracerProvider()).getTracer('@coroipc/observe')
  }

  #propagates(service: number): boolean {
    const { propagate = false } = this.#options
    return typeof propagate === 'function' ? propagate(service) : propagate
  }

  #method(service: number, id: number): string {
    return this.#options.names?.(service, id) ?? `${service}/${id}`
  }

  #begin(
    of: object,
    kind: SpanKind,
    name: string,
    more: Attributes,
    parent: Context = context.active(),
  ): Span {
    const attributes = { 'network.transport': 'unix', ...more }
    const span = this.#tracer.startSpan(name, { kind, attributes }, parent)
    this.#spans.set(of, span)
    return span
  }

  #call(service: number, id: number): Attributes {
    return { 'rpc.system.name': SYSTEM, 'rpc.method': this.#method(service, id) }
  }

  #requested(trace: ClientTrace): void {
    const { connection, id } = trace
    const { service } = connection
    const attributes = { ...this.#call(service, id), 'coroipc.connection.id': connection.id }
    const span = this.#begin(trace, SpanKind.CLIENT, this.#method(service, id), attributes)
    trace.around = within(context.active())
    this.#carry(trace, span, service, connection.messageBytes)
  }

  #received(trace: ServerTrace): void {
    const { connection, service } = trace
    const remote = this.#uncover(trace, service)
    const attributes = {
      ...this.#call(service, trace.id),
      'coroipc.connection.id': connection.id,
      'coroipc.client.pid': connection.credentials.pid,
      'coroipc.client.uid': connection.credentials.uid,
    }
    const name = this.#method(service, trace.id)
    const span = this.#begin(trace, SpanKind.SERVER, name, attributes, remote)
    trace.around = within(api.setSpan(remote, span))
  }

  #dispatched(trace: SentTrace): void {
    const { connection, id } = trace
    const name = `send ${this.#method(connection.service, id)}`
    const span = this.#begin(trace, SpanKind.PRODUCER, name, messaging('send', trace.connection))
    this.#carry(trace, span, connection.service, connection.messageBytes)
  }

  #came(trace: ReceivedTrace): void {
    const { connection, message } = trace
    // A lease is what it is; its bytes are shared memory and cannot be taken apart.
    const opened: { id: number; payload: Uint8Array } = { id: message.id, payload: message.payload }
    const remote = isMessage(message) ? this.#uncover(opened, connection.service) : context.active()
    if (opened.id !== message.id)
      trace.message = { ...opened, sequence: message.sequence } satisfies Message
    const name = `process ${this.#method(connection.service, opened.id)}`
    const attributes = messaging('process', connection)
    const span = this.#begin(trace, SpanKind.CONSUMER, name, attributes, remote)
    trace.around = within(api.setSpan(remote, span))
  }

  /** Puts the header before what is sent, where it fits. */
  #carry(
    message: { id: number; payload?: unknown },
    span: Span,
    service: number,
    bytesMax: number,
  ): void {
    if (message.id >= TRACED || message.id < 0 || !this.#propagates(service)) return
    const payload = withHeader(message.payload, encodeHeader(span.spanContext()), bytesMax)
    if (payload === undefined) return
    message.id += TRACED
    message.payload = payload
  }

  /** Takes the header off what came. */
  #uncover(message: { id: number; payload: Uint8Array }, service: number): Context {
    const here = context.active()
    const headed = message.id >= TRACED && message.payload.length >= HEADER_BYTES
    if (!headed || !this.#propagates(service)) return here
    const remote = decodeHeader(message.payload)
    message.id -= TRACED
    message.payload = message.payload.subarray(HEADER_BYTES)
    return remote === undefined ? here : api.setSpanContext(here, remote)
  }

  #over(trace: object, { service, id, code, error }: Outcome, fault: boolean): void {
    const span = this.#spans.get(trace)
    if (span === undefined) return
    span.setAttribute('rpc.response.status_code', code)
    if (code === 'ERR_COROIPC_NO_HANDLER') {
      // Whatever a client may ask for: its words do not become names of spans.
      span.updateName(SYSTEM)
      span.setAttribute('rpc.method', '_OTHER')
      span.setAttribute('rpc.method_original', `${service}/${id % TRACED}`)
    }
    this.#end(trace, span, code === 'OK' ? undefined : code, fault ? error : undefined)
  }

  #handed(trace: SentTrace | ReceivedTrace): void {
    const span = this.#spans.get(trace)
    if (span === undefined) return
    const { error } = trace
    const { code = 'ERROR' } = (error ?? {}) as { code?: string }
    this.#end(trace, span, error === undefined ? undefined : code, error)
  }

  #end(trace: object, span: Span, code: string | undefined, error: unknown): void {
    this.#spans.delete(trace)
    if (code !== undefined) span.setAttribute('error.type', code)
    if (error !== undefined) {
      const { message } = error as Partial<Error>
      span.setStatus({ code: SpanStatusCode.ERROR, message: message ?? String(code) })
      if (error instanceof Error) span.recordException(error)
    }
    span.end()
  }
}

/** Whichever context manager the program has registered. */
function within(mine: Context) {
  return <Result>(call: () => Result): Result => context.with(mine, call)
}

function messaging(
  operation: 'send' | 'process',
  { service, id }: { readonly service: number; readonly id: string },
): Attributes {
  return {
    'messaging.system': SYSTEM,
    'messaging.operation.type': operation,
    'messaging.destination.name': String(service),
    'coroipc.connection.id': id,
  }
}

function isMessage(message: ReceivedTrace['message']): message is Message {
  return !('release' in message)
}
