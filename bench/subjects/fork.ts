// child_process.fork: Node's own channel between a parent and its child. `json` carries text, so the
// payload goes as base64 (a Buffer in JSON would be a list of numbers, several times as long);
// `advanced` carries bytes as they are.
import { fork as forkProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { ClientSide, HostedSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { askOn } from './ordered.js'

export interface ForkArguments {
  readonly task: Task
  /** Payloads travel as base64. */
  readonly text: boolean
}

/** A payload, or a control word. */
export type Message = string | Uint8Array | number

// `advanced` serializes at once, so the payload's memory is free when send() returns.
export function encode(payload: Uint8Array, text: boolean): string | Uint8Array {
  return text
    ? Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('base64')
    : payload
}

export function decode(message: string | Uint8Array): Uint8Array {
  return typeof message === 'string' ? Buffer.from(message, 'base64') : message
}

function forkSubject(serialization: 'json' | 'advanced', copiesOneWay: number): HostedSubject {
  return {
    kind: 'hosted',
    name: `fork-${serialization}`,
    about: `child_process.fork of Node.js ${process.versions.node}, serialization '${serialization}'`,
    refuses: (task) => {
      if (task.form === 'sync') return 'process.send cannot block'
      if (task.wait !== 'own') return 'Node sleeps in epoll, always'
      // Where they are made, or end with their server, it shows what that costs.
      return task.connections === 1 || task.case === 'connect' || task.case === 'server-death'
        ? undefined
        : 'each connection is a process of its own'
    },
    takes: (task) =>
      task.case === 'connect' || task.case === 'server-death' || task.variant === 'owned',
    copies: (task) => copiesOneWay * waysOf(task),
    connect: (task, serverCpu) => connect({ task, text: serialization === 'json' }, serverCpu),
  }
}

// To base64, to JSON, to UTF-8, into the kernel, out of it, to a string, out of JSON, out of base64.
export const forkJson = forkSubject('json', 8)
// Serialized, into the kernel, out of it; a payload is a part of the buffer that was read.
export const forkAdvanced = forkSubject('advanced', 3)

async function connect(args: ForkArguments, serverCpu: number | null): Promise<ClientSide> {
  const script = fileURLToPath(new URL('../peers/fork-server.js', import.meta.url))
  const child = forkProcess(script, [JSON.stringify(args)], {
    serialization: args.text ? 'json' : 'advanced',
    ...(serverCpu === null
      ? {}
      : { execPath: 'taskset', execArgv: ['-c', String(serverCpu), process.execPath] }),
  })
  const exited = once(child, 'exit')
  const { side, receiver } = askOn(
    {
      payload: (payload) => child.send(encode(payload, args.text)),
      control: (word) => child.send(word),
      close: async () => {
        if (child.connected) child.disconnect()
        await exited
      },
    },
    args.task,
  )
  child.on('message', (message: Message) => {
    if (typeof message !== 'number') receiver.payload(decode(message))
  })
  child.on('disconnect', () => receiver.ended())
  await once(child, 'spawn')
  return {
    ...side,
    killServer: () => child.kill('SIGKILL'),
  }
}
