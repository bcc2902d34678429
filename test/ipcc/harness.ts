// Starts the server of server.ts, or another such program, in a child process.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

let count = 0

/** A name in the abstract namespace that nobody else uses. */
export const freshName = (): string => `@coroipc-test-${process.pid}-${count++}`

export interface TestServer extends AsyncDisposable {
  readonly name: string
  readonly child: ChildProcess
  /** Resolves when it is gone. */
  kill(signal?: NodeJS.Signals): Promise<void>
}

export async function startServer(
  name: string = freshName(),
  program: URL = new URL('server.js', import.meta.url),
): Promise<TestServer> {
  const child = fork(fileURLToPath(program), [name])
  const ended = once(child, 'exit')
  await Promise.race([
    once(child, 'message'),
    ended.then(() => Promise.reject(new Error('the server ended before it was ready'))),
  ])
  const kill = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    child.kill(signal)
    await ended
  }
  return { name, child, kill, [Symbol.asyncDispose]: () => kill() }
}

export const text = (payload: Uint8Array | undefined): string =>
  Buffer.from(payload ?? []).toString()

/** Waits for a condition, not for a time; the runner's limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}
