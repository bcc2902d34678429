/**
 * Hot restart: starts the next server process with the listening sockets of this one, and closes when that one listens.
 * No connect is refused meanwhile, since the socket never closes, and no request is lost or done twice: docs/decisions/0014.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  type Check,
  type Checks,
  anything,
  checkOptions,
  invalidArgument,
  IpcError,
  milliseconds,
  timeout,
} from '@coroipc/native'
import { HANDED_OVER, type HandedOver } from './inherited.js'
import type { Server } from './server.js'

/** What `handOver` takes; all of it may be left out. */
export interface HandOverOptions {
  /** The program. Default: the Node.js that runs this one. */
  readonly command?: string | undefined
  /** Its arguments. Default: those of this process. */
  readonly args?: readonly string[] | undefined
  /** Its environment. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv | undefined
  /** Its working directory. Default: that of this process. */
  readonly cwd?: string | undefined
  /** Time it has until it listens, milliseconds. Default 30 000. */
  readonly readyTimeoutMs?: number | undefined
  /** Time that requests which run here have afterwards, milliseconds. Default 30 000. */
  readonly timeoutMs?: number | undefined
}

/** `ERR_COROIPC_PEER_DEAD` of {@link handOver}: how the next server ended, unless it only closed its pipe. */
export interface SuccessorEnded extends IpcError {
  /** Its exit code. */
  readonly exitCode?: number
  /** The signal that ended it. */
  readonly signal?: NodeJS.Signals
}

const text: Check = (name, value) => {
  if (typeof value !== 'string' || value === '') throw invalidArgument(name, 'a string', value)
}
const checks: Checks = {
  command: text,
  args: (name, value) => {
    if (!Array.isArray(value)) throw invalidArgument(name, 'a list of strings', value)
    for (const [at, each] of value.entries())
      if (typeof each !== 'string') throw invalidArgument(`${name}[${at}]`, 'a string', each)
  },
  env: anything,
  cwd: text,
  readyTimeoutMs: timeout,
  timeoutMs: milliseconds,
}

/** A server, whatever the context of its connections. */
type HandedServer = Pick<Server, 'listener' | 'close'>

const DEFAULT_MS = 30_000
/** stdin, stdout, stderr; then the pipe; then two fds for each socket. */
const READY_FD = 3
/** Its pipe ends a moment before it does. */
const EXIT_MS = 1000

/** A byte in the pipe: it listens. The end of the pipe: it never will. */
function ready(child: ChildProcess, timeoutMs: number): Promise<void> {
  const pipe = child.stdio[READY_FD] as NodeJS.ReadableStream
  return new Promise((resolve, reject) => {
    const over = (error?: Error): void => {
      clearTimeout(timer)
      pipe.removeAllListeners()
      pipe.on('error', () => {})
      pipe.resume()
      if (error === undefined) resolve()
      else reject(error)
    }
    const fail = (
      code: 'PEER_DEAD' | 'TIMED_OUT' | 'SYSTEM',
      what: string,
      cause?: unknown,
      how?: object,
    ): void => {
      const message = `handOver: ${what}; this server goes on`
      over(Object.assign(new IpcError(`ERR_COROIPC_${code}`, message, { cause }), how))
    }
    const dead = (exitCode: number | null, signal: NodeJS.Signals | null): void => {
      const [how, known] =
        signal === null ? [`exit code ${exitCode}`, { exitCode }] : [signal, { signal }]
      fail('PEER_DEAD', `the next server ended before it listened (${how})`, undefined, known)
    }
    let timer =
      timeoutMs === Infinity
        ? undefined
        : setTimeout(
            () => fail('TIMED_OUT', `the next server did not listen in ${timeoutMs} ms`),
            timeoutMs,
          )
    child.once('error', (cause) => fail('SYSTEM', 'the next server could not be started', cause))
    pipe.once('data', () => over())
    pipe.once('end', () => {
      const { exitCode, signalCode } = child
      if (exitCode !== null || signalCode !== null) return dead(exitCode, signalCode)
      child.once('exit', dead)
      clearTimeout(timer)
      timer = setTimeout(
        () => fail('PEER_DEAD', 'the next server closed its pipe before it listened'),
        EXIT_MS,
      )
    })
    pipe.on('error', () => {})
  })
}

/**
 * Hands the listening sockets of these servers to a new process, which takes them by `inherited`, and closes the
 * servers when it listens on all of them: each connection ends as soon as nothing of it is being handled. What was not
 * read is known to its client as never handed over (`ERR_COROIPC_DISCONNECTED`, `sent: false`): `reconnecting` asks the
 * new server by itself.
 *
 * The new process has this one's standard input and output. When it does not come to listen it is killed, and the servers
 * here go on as if nothing had been.
 *
 * @returns the process id of the new one, when the servers here are closed
 * @throws (rejects) `ERR_COROIPC_TIMED_OUT`, `_PEER_DEAD` it ended before it listened ({@link SuccessorEnded}),
 *   `_SYSTEM` it could not be started; `_INVALID_ARGUMENT` there is no server, or one does not listen
 * @example
 * process.on('SIGUSR2', () => handOver(server).catch((error) => log.error(error)))
 */
export async function handOver(
  servers: HandedServer | readonly HandedServer[],
  options: HandOverOptions = {},
): Promise<number> {
  checkOptions('options', options, checks)
  const all = Array.isArray(servers)
    ? (servers as readonly HandedServer[])
    : [servers as HandedServer]
  const isServer = (each: HandedServer | undefined): boolean =>
    typeof each?.close === 'function' && typeof each.listener?.fd === 'number'
  if (all.length === 0 || !all.every(isServer))
    throw invalidArgument('servers', 'a server that listens, or several', servers, 'type')
  const fds: number[] = []
  const sockets = all.map((server): HandedOver['sockets'][number] => {
    const { address, fd, lock } = server.listener
    const first = READY_FD + 1 + fds.length
    fds.push(fd)
    if (lock >= 0) fds.push(lock)
    return { address, fd: first, lock: lock >= 0 ? first + 1 : -1 }
  })
  const handed: HandedOver = { ppid: process.pid, ready: READY_FD, sockets }
  const child = spawn(
    options.command ?? process.execPath,
    options.args ?? [...process.execArgv, ...process.argv.slice(1)],
    {
      cwd: options.cwd,
      env: { ...(options.env ?? process.env), [HANDED_OVER]: JSON.stringify(handed) },
      stdio: ['inherit', 'inherit', 'inherit', 'pipe', ...fds],
    },
  )
  try {
    await ready(child, options.readyTimeoutMs ?? DEFAULT_MS)
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  }
  child.unref()
  const timeoutMs = options.timeoutMs ?? DEFAULT_MS
  await Promise.all(all.map((server) => server.close({ timeoutMs, handOver: true })))
  return child.pid as number
}
