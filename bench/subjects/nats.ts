// NATS on loopback: a nats-server of its own between both sides, at a port that it chooses itself, and the
// ordinary client on both. Calls are requests with a reply subject; dispatch a subject with a credit.
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { Daemon } from './daemon.js'
import { answerOn, askOn } from './ordered.js'
import { findCommand, loadPackage, missingPackage } from './package.js'

interface Message {
  readonly data: Uint8Array
  respond(payload: Uint8Array): void
}
type Callback = (error: Error | null, message: Message) => void
interface Connection {
  publish(subject: string, payload: Uint8Array): void
  request(subject: string, payload: Uint8Array, options: { timeout: number }): Promise<Message>
  subscribe(subject: string, options: { callback: Callback }): void
  flush(): Promise<void>
  close(): Promise<void>
}
interface Nats {
  connect(options: { servers: string }): Promise<Connection>
}

const TIMEOUT_MS = 10_000

export const nats: SidesSubject = {
  kind: 'sides',
  name: 'nats',
  about: 'NATS: a nats-server on loopback between both sides, nats.js 2',
  missing: () =>
    missingPackage('nats') ??
    (findCommand('nats-server') === undefined ? 'apt-get install nats-server' : undefined),
  refuses: (task) => {
    if (task.form === 'sync') return 'the client cannot block'
    if (task.case === 'dispatch' && task.connections > 1) return 'one subject for all'
    // Its limit is 1 MiB.
    if (task.payloadBytes > 1 << 20) return 'larger than its largest message'
    return task.wait === 'own' ? undefined : 'it sleeps, always'
  },
  // Into a frame, into the kernel and out of it, through the server's buffer, into the kernel and out of
  // it; one more where the memory is used again before it is written (not that of a request).
  takes: (task) => task.case === 'connect' || task.variant === 'owned',
  copies: (task) => (waysOf(task) === 2 ? 13 : 7 * waysOf(task)),
  serve,
  connect,
}

/** Where the server writes its address: a file "nats-server_PID.ports". */
function portsFolder(path: string): string {
  return `${path}.ports`
}

function readPort(path: string): string | undefined {
  const folder = portsFolder(path)
  const file = readdirSync(folder).find((name) => name.endsWith('.ports'))
  if (file === undefined) return undefined
  const text = readFileSync(join(folder, file), 'utf8')
  if (text === '') return undefined // being written
  return (JSON.parse(text) as { nats: string[] }).nats[0]
}

async function open(path: string): Promise<Connection> {
  const { connect: connectTo } = await loadPackage<Nats>('nats')
  return connectTo({ servers: readPort(path) as string })
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  mkdirSync(portsFolder(path))
  const daemon = new Daemon(
    findCommand('nats-server') as string,
    '--addr',
    '127.0.0.1',
    '--port',
    '-1',
    '--ports_file_dir',
    portsFolder(path),
  )
  try {
    await daemon.started(() => readPort(path))
    const connection = await open(path)
    connection.subscribe('call', {
      // A copy: it is written a turn later, and the memory of an answer is used again.
      callback: (_error, message) => message.respond(work.answer(message.data).slice()),
    })
    const receiver = answerOn(
      {
        // A copy here too: what is published is kept until the next turn.
        payload: (payload) => connection.publish('dispatch', payload.slice()),
        control: () => {},
      },
      work,
      task,
    )
    connection.subscribe('control', {
      callback: (_error, message) => receiver.control(message.data[0] as number),
    })
    await connection.flush()
    return {
      close: async () => {
        receiver.ended()
        await connection.close()
        await daemon.close()
      },
    }
  } catch (error) {
    await daemon.close()
    throw error
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const connection = await open(path)
  const { side, receiver } = askOn(
    {
      payload: () => {}, // calls have their own answers here
      control: (word) => connection.publish('control', Uint8Array.of(word)),
      close: () => connection.close(),
    },
    task,
  )
  if (task.case === 'dispatch' || task.variant === 'owned') {
    connection.subscribe('dispatch', {
      callback: (_error, message) => receiver.payload(message.data),
    })
    await connection.flush()
  }
  const options = { timeout: TIMEOUT_MS }
  const request = async (payload: Uint8Array): Promise<Uint8Array> =>
    (await connection.request('call', payload, options)).data
  return {
    ...side,
    greeted: true,
    request,
    requestCallback: (done) => (payload) => void handOver(request(payload), done),
  }
}

async function handOver(
  answer: Promise<Uint8Array>,
  done: (answer: Uint8Array) => void,
): Promise<void> {
  done(await answer)
}
