/** Connecting: by promise with a deadline and a signal, or blocking. */
import {
  addon,
  ipcError,
  isTraced,
  localServers,
  nameError,
  nativeError,
  type NativeConnectOptions,
  Status,
  waitCode,
} from '@coroipc/native'
import { ClientConnection } from './client-connection.js'
import type { Connection } from './connection.js'
import { connectChannel, type ConnectTrace, connectTracing } from './diagnostics.js'
import { type Group, theGroup } from './group.js'
import {
  checkConnect,
  type ConnectOptions,
  type ConnectSyncOptions,
  DEFAULT_TIMEOUT_MS,
  nativeTimeout,
  trusts,
} from './options.js'

/** Where a server of this name may listen. Nowhere: with every folder the path of a plain name is too long. */
function placesOf(name: string): string[] {
  const addresses = addon.connectAddresses(name)
  if (addresses.length === 0) throw nameError(-Status.INVALID_ARGUMENT, name, 'connect')
  return addresses
}

/** The error, with the frames of the call that it is the outcome of. */
function calledFrom(error: Error, stack: string | undefined): Error {
  const at = stack?.indexOf('\n') ?? -1
  if (at >= 0) error.stack = `${error.name}: ${error.message}${stack?.slice(at)}`
  return error
}

function nativeOptions(options: ConnectSyncOptions): NativeConnectOptions {
  return {
    service: options.service,
    wait: waitCode(options.wait ?? 'adaptive') as number,
    timeoutMs: nativeTimeout(options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS),
    requestRingBytes: options.requestRingBytes ?? 0,
    responseRingBytes: options.responseRingBytes ?? 0,
    dispatchRingBytes: options.dispatchRingBytes ?? 0,
    messageBytes: options.messageBytes ?? 0,
    requestsInFlight: options.requestsInFlight ?? 0,
    inboxBytes: options.inboxBytes ?? 4 << 20,
    queueBytes: Math.max(1, options.queueBytes ?? 4 << 20),
    trustServer: trusts(options),
    serverUid: options.server?.uid ?? -1,
    serverPid: options.server?.pid ?? -1,
  }
}

function established(
  group: Group,
  number: number,
  name: string,
  options: ConnectSyncOptions,
): ClientConnection {
  const info = addon.clientConnectionInfo(group.loop.handle, number)
  if (typeof info === 'number') {
    group.disconnect(number)
    throw nativeError(info, { subject: 'connect' })
  }
  const connection = new ClientConnection(
    group,
    number,
    info,
    options,
    addon.connectAddresses(name),
  )
  if (connectChannel.hasSubscribers) connectChannel.publish({ connection })
  return connection
}

/**
 * Connects to a service.
 *
 * @param name `'demo'`: looked up in /run/coroipc and in $XDG_RUNTIME_DIR/coroipc; `'@demo'`: the
 *   abstract namespace; `'/a/b.sock'`: that path
 * @returns the connection, open
 * @throws (rejects) `ERR_COROIPC_CONNECT_REFUSED` nobody listens; `_DENIED` the server's `authorize` said
 *   no, or it is not the server that was demanded; `_NO_SERVICE`; `_LIMIT`; `_VERSION`; `_TIMED_OUT`;
 *   `_ABORTED`; `_PEER_DEAD` it died meanwhile; `_PROTOCOL`; `_SYSTEM`; `_NO_MEMORY`;
 *   `_INVALID_ARGUMENT`
 * @example
 * await using connection = await connect('demo', { service: 7, timeoutMs: 1000 })
 */
export function connect(name: string, options: ConnectOptions): Promise<Connection> {
  if (!isTraced(connectTracing)) return start(name, options)
  return connectTracing.tracePromise(start, traceOf(name, options, false), undefined, name, options)
}

function traceOf(name: string, options: ConnectSyncOptions, sync: boolean): ConnectTrace {
  return { name, service: (options as ConnectSyncOptions | undefined)?.service ?? -1, sync }
}

function start(name: string, options: ConnectOptions): Promise<Connection> {
  // What fails later fails in the event loop, where nobody knows any more who asked. A connect costs a
  // handshake: this is nothing beside it. (For each request it would not be.)
  const caller: { stack?: string } = {}
  Error.captureStackTrace(caller, connect)
  return new Promise((resolve, fail) => {
    const reject = (error: Error): void => fail(calledFrom(error, caller.stack))
    checkConnect(name, options, false)
    const { signal } = options
    const subject = `connect '${name}'`
    const aborted = (): Error => ipcError(Status.ABORTED, { subject, cause: signal?.reason })
    if (signal?.aborted === true) throw aborted()
    placesOf(name)
    const group = theGroup()
    const number = addon.connectStart(
      group.loop.handle,
      name,
      nativeOptions(options),
      nativeTimeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS),
    )
    if (number < 0) throw nativeError(number, { subject })
    const done = (): void => {
      signal?.removeEventListener('abort', onAbort)
      group.unref()
    }
    const onAbort = (): void => {
      group.disconnect(number)
      done()
      reject(aborted())
    }
    signal?.addEventListener('abort', onAbort, { once: true })
    group.ref()
    group.connecting[number] = {
      connected: () => {
        try {
          resolve(established(group, number, name, options))
        } catch (error) {
          reject(error as Error)
        }
        done()
      },
      failed: (error) => {
        done()
        error.message = error.message.replace(/^connect\b/, subject)
        reject(error)
      },
    }
  })
}

/**
 * Connects to a service, blocking this thread.
 *
 * @throws as `connect` rejects, and `ERR_COROIPC_DEADLOCK` if the server runs in this thread
 * @example
 * using connection = connectSync('demo', { service: 7 })
 */
export function connectSync(name: string, options: ConnectSyncOptions): Connection {
  if (!isTraced(connectTracing)) return blocking(name, options)
  return connectTracing.traceSync(blocking, traceOf(name, options, true), undefined, name, options)
}

function blocking(name: string, options: ConnectSyncOptions): Connection {
  checkConnect(name, options, true)
  const subject = `connectSync '${name}'`
  if (placesOf(name).some((address) => localServers.has(address)))
    throw ipcError(Status.DEADLOCK, { subject })
  const group = theGroup()
  group.loop.flush()
  const number = addon.connectSync(
    group.loop.handle,
    name,
    nativeOptions(options),
    nativeTimeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS),
  )
  if (number < 0) throw nativeError(number, { subject })
  return established(group, number, name, options)
}
