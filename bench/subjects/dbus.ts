// D-Bus through a daemon: a private bus with its own configuration, both sides in Node.js with
// @httptoolkit/dbus-native. Payloads are arrays of bytes, which it writes element by element: of 1 KiB and
// more that is what is measured. Calls are method calls, dispatches signals with a credit of our own.
import { existsSync, writeFileSync } from 'node:fs'
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { Daemon } from './daemon.js'
import { answerOn, askOn, type Receiver } from './ordered.js'
import { findCommand, loadPackage, missingPackage } from './package.js'

interface Message {
  readonly type?: number
  readonly serial?: number
  readonly path?: string
  readonly destination?: string
  readonly sender?: string
  readonly interface?: string
  readonly member?: string
  readonly signature?: string
  readonly body?: unknown[]
}
/** Gets what is in the body, then the message; null: nothing to answer. */
type Handler = (...args: unknown[]) => unknown
interface Bus {
  readonly connection: {
    on(event: 'message', listener: (message: Message) => void): void
    on(event: 'error', listener: (error: Error) => void): void
    message(message: Message): void
  }
  readonly name: string | undefined
  serial: number
  setMethodCallHandler(
    path: string,
    iface: string,
    member: string,
    handler: [Handler, string],
  ): void
  invoke(message: Message, done: (error: Error | null, ...body: unknown[]) => void): void
  invokeDbus(message: Message, done: (error: Error | null, ...body: unknown[]) => void): void
  disconnect(): Promise<void>
}
interface DBus {
  createClient(options: { busAddress: string }): Bus
  readonly messageType: { methodCall: number; methodReturn: number; signal: number }
}

const BYTES_MAX = 16384
const NAME = 'org.coroipc.Bench'
const PATH = '/org/coroipc/Bench'

export const dbus: SidesSubject = {
  kind: 'sides',
  name: 'dbus',
  about: 'D-Bus through dbus-daemon on a bus of its own, @httptoolkit/dbus-native on both sides',
  missing: () =>
    missingPackage('@httptoolkit/dbus-native') ??
    (findCommand('dbus-daemon') === undefined ? 'apt-get install dbus-daemon' : undefined),
  refuses: (task) => {
    if (task.form === 'sync') return 'the client cannot block'
    if (task.payloadBytes > BYTES_MAX) return 'byte by byte: a row would take minutes'
    return task.wait === 'own' ? undefined : 'it sleeps, always'
  },
  // Bytes one by one into chunks, together, into the message, into the kernel and out of it, into the
  // kernel and out of it again after the daemon's own two, out of the message one by one, into bytes.
  takes: (task) => task.case === 'connect',
  copies: (task) => 11 * waysOf(task),
  serve,
  connect,
}

function configuration(path: string): string {
  return `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=${path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  <limit name="max_replies_per_connection">50000</limit>
  <limit name="max_completed_connections">10000</limit>
  <limit name="max_connections_per_user">10000</limit>
</busconfig>
`
}

function busPath(path: string): string {
  return `${path}.bus`
}

async function open(path: string): Promise<{ bus: Bus; types: DBus['messageType'] }> {
  const loaded = await loadPackage<{ default: DBus }>('@httptoolkit/dbus-native')
  const bus = loaded.default.createClient({ busAddress: `unix:path=${busPath(path)}` })
  await new Promise<void>((resolve, reject) => {
    bus.connection.on('error', reject)
    // Behind its own Hello: answered means that the bus knows us.
    bus.invokeDbus({ member: 'GetId' }, (error) => (error === null ? resolve() : reject(error)))
  })
  return { bus, types: loaded.default.messageType }
}

function bytesOf(body: unknown[] | undefined): Uint8Array {
  return Uint8Array.from(body?.[0] as Iterable<number>)
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const config = `${path}.conf`
  writeFileSync(config, configuration(busPath(path)))
  const daemon = new Daemon('dbus-daemon', '--nofork', '--nopidfile', `--config-file=${config}`)
  try {
    await daemon.started(() => (existsSync(busPath(path)) ? true : undefined))
    const { bus, types } = await open(path)
    await new Promise<void>((resolve, reject) => {
      const name: Message = { member: 'RequestName', signature: 'su', body: [NAME, 0] }
      bus.invokeDbus(name, (error) => (error === null ? resolve() : reject(error)))
    })
    const receivers = new Map<string, Receiver>()
    const receiverOf = (client: string): Receiver => {
      let receiver = receivers.get(client)
      if (receiver === undefined) {
        const signal = (member: string, signature: string, value: unknown): void => {
          const head = { type: types.signal, serial: bus.serial++, path: PATH, interface: NAME }
          bus.connection.message({
            ...head,
            destination: client,
            member,
            signature,
            body: [value],
          })
        }
        receiver = answerOn(
          {
            payload: (payload) => signal('Payload', 'ay', payload),
            control: (word) => signal('Control', 'u', word),
          },
          work,
          task,
        )
        receivers.set(client, receiver)
      }
      return receiver
    }
    // The answer is written a turn later: a copy, since its memory is used again.
    const call: Handler = (bytes) => work.answer(Uint8Array.from(bytes as Iterable<number>)).slice()
    const control: Handler = (word, message) => {
      receiverOf((message as Message).sender as string).control(word as number)
      return null
    }
    bus.setMethodCallHandler(PATH, NAME, 'Call', [call, 'ay'])
    bus.setMethodCallHandler(PATH, NAME, 'Control', [control, ''])
    return {
      close: async () => {
        for (const receiver of receivers.values()) receiver.ended()
        await daemon.close()
      },
    }
  } catch (error) {
    await daemon.close()
    throw error
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const { bus, types } = await open(path)
  const to = { destination: NAME, path: PATH, interface: NAME }
  const { side, receiver } = askOn(
    {
      payload: () => {}, // calls have their own answers here
      control: (word) =>
        bus.invoke({ ...to, member: 'Control', signature: 'u', body: [word] }, (error) => {
          if (error !== null) throw error
        }),
      close: () => bus.disconnect(),
    },
    task,
  )
  bus.connection.on('message', (message) => {
    if (message.type === types.signal && message.member === 'Payload')
      receiver.payload(bytesOf(message.body))
  })
  const requestCallback = (payload: Uint8Array, done: (answer: Uint8Array) => void): void => {
    bus.invoke({ ...to, member: 'Call', signature: 'ay', body: [payload] }, (error, ...body) => {
      if (error !== null) throw error
      done(bytesOf(body))
    })
  }
  return {
    ...side,
    greeted: true,
    request: (payload) => new Promise((resolve) => requestCallback(payload, resolve)),
    requestCallback: (done) => (payload) => requestCallback(payload, done),
  }
}
