// The command line as its users run it: the bin, in a process of its own.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { root } from '../support/paths.js'
import { Peer } from '../support/peer.js'

/** The program, and the way to start it. */
export const bin: string = join(root, 'packages/cli/bin/coroipc.js')
export const command: readonly string[] = [process.execPath, bin]

export interface Result {
  readonly code: number | string | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly input?: string | Uint8Array
  readonly env?: NodeJS.ProcessEnv
  /** Of Node.js itself, before the program. */
  readonly node?: readonly string[]
  /** Sends the signal once the output matches. */
  readonly kill?: readonly [signal: NodeJS.Signals, when: RegExp]
}

/** Runs `coroipc ARGS` to its end. */
export async function coroipc(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const child = spawn(process.execPath, [...(options.node ?? []), bin, ...args], {
    env: { ...process.env, ...options.env },
  })
  let said = ''
  let killed = false
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (chunk: string) => {
    said += chunk
    if (killed || options.kill?.[1].test(said) !== true) return
    killed = true
    child.kill(options.kill[0])
  })
  child.stdin.on('error', () => {}) // one that does not read
  child.stdin.end(options.input)
  const [stderr, [code, signal]] = await Promise.all([
    text(child.stderr),
    once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>,
  ])
  return { code: signal ?? code, stdout: said, stderr }
}

/** The JSON values of an output, one a line. */
export function values(stdout: string): Record<string, unknown>[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

/** A server in another process: service 7, with a description for tools if `inspect`, where it is called `service`. */
export async function serve(
  name: string,
  inspect: boolean | { service: number } = false,
  service = 'cache',
): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcs, state }, name, inspect, service) => {
      state.sent = []
      const server = new ipcs.Server({ inspect })
      // What is refused on purpose is no news.
      server.on('error', () => {})
      server.addService({
        id: 7,
        description: {
          name: service,
          requests: {
            0: { name: 'get', codec: 'json' },
            4: { name: 'put', codec: 'json', oneWay: true },
          },
          dispatches: { 5: { name: 'tick', codec: 'json' } },
        },
        onConnect(connection) {
          if (state.dieLater === true) setTimeout(() => process.kill(process.pid, 'SIGKILL'), 200)
          connection.dispatch('hello', { id: 1 })
          connection.dispatch(new Uint8Array([0, 255]), { id: 2 })
          let ticks = 0
          const timer = setInterval(() => {
            connection.dispatch(JSON.stringify({ ticks: ticks++ }), { id: 5 })
          }, 20)
          connection.once('close', () => clearInterval(timer))
        },
        handlers: {
          0: (request) => request.payload,
          1: (request) => ({ status: 42, payload: [request.payload, '!'] }),
          2: () => {
            throw new Error('on purpose')
          },
          3: (request) => request.defer(), // never answered
          4: (request) => {
            state.sent.push(Buffer.from(request.payload).toString())
          },
          6: () => new Uint8Array([0, 1, 2, 0x41, 0xff]),
          7: () => '\u001b[31mred\u001b[0m',
          10: () => ({
            status: -0x80000000, // as @coroipc/contract refuses
            payload: '[{"message":"too big","path":["a",0]},{"message":"\\u001b[31m"}]',
          }),
          8: (request) => `${request.payload.length}`,
          9: () =>
            setTimeout(() => process.kill(process.pid, 'SIGKILL'), 1) && new Promise(() => {}),
        },
      })
      await server.listen(name)
    },
    name,
    inspect,
    service,
  )
  return peer
}

let names = 0

/** A name that nobody else has. */
export const newName = (): string => `@coroipc-test-cli-${process.pid}-${names++}`
