/** `coroipc list`: the servers of this machine. */
import { IpcError } from '@coroipc/ipcc'
import type { InspectedServer, InspectedService } from '@coroipc/ipcs'
import { type Command, flag } from '../command.js'
import { CommandError } from '../errors.js'
import { Inspector, inspectorChoice, inspectorOptions } from '../inspector.js'
import { count, printable } from '../output.js'
import { type Found, findServers, programOf, userName } from '../servers.js'

/** One line of the list. */
interface Listed {
  readonly name: string
  readonly address: string
  readonly state: 'serving' | 'silent' | 'denied' | 'dead' | 'unreachable'
  readonly pid: number | undefined
  readonly uid: number | undefined
  readonly program: string | undefined
  /** Of the inspection, without itself. */
  readonly services?: InspectedService[] | undefined
  readonly connections?: number | undefined
  readonly server?: InspectedServer | undefined
  readonly note?: string | undefined
}

/** One that is stopped must not hold up the list of all others. */
const TIMEOUT_MS = 1000

async function look(found: Found, choice: { service: number; timeoutMs: number }): Promise<Listed> {
  const { name, address, uid, dead } = found
  const [pid] = found.pids
  const known = { name, address, pid, uid, program: pid === undefined ? undefined : programOf(pid) }
  try {
    // By address: of two folders each may have one of this name.
    await using inspector = await Inspector.open(address, choice)
    const server = await inspector.server()
    const services = (await inspector.services()).filter((each) => each.inspection !== true)
    const connections = services.reduce((sum, each) => sum + each.connections, 0)
    const program = programOf(server.pid) ?? known.program
    return {
      ...known,
      state: 'serving',
      pid: server.pid,
      uid: server.uid,
      program,
      services,
      connections,
      server,
    }
  } catch (error) {
    if (error instanceof CommandError)
      return { ...known, state: 'silent', note: 'tells nothing: new Server({ inspect: true })' }
    if (IpcError.is(error, 'ERR_COROIPC_DENIED'))
      return { ...known, state: 'denied', note: 'does not let this user ask' }
    if (IpcError.is(error, 'ERR_COROIPC_CONNECT_REFUSED'))
      return {
        ...known,
        state: 'dead',
        note: 'dead: nobody listens, the next server of this name replaces it',
      }
    if (IpcError.is(error, 'ERR_COROIPC_TIMED_OUT'))
      return { ...known, state: 'unreachable', note: 'does not answer: stopped, or busy' }
    const { code, message } = error as { code?: string; message: string }
    return { ...known, state: dead ? 'dead' : 'unreachable', note: code ?? message }
  }
}

function servicesText(services: readonly InspectedService[] | undefined): string {
  return (services ?? [])
    .map(({ id, name }) => (name === undefined ? String(id) : `${id} ${printable(name)}`))
    .join(', ')
}

export const command: Command = {
  summary: 'Servers of this machine, who runs them, services, connections',
  options: {
    dead: { type: 'boolean', help: 'those too that left their socket behind when they died' },
    ...inspectorOptions,
    timeout: { type: 'string', value: 'MS', help: 'time that each server has to answer (1000)' },
  },
  details: `Looks through the runtime folders ($COROIPC_RUNTIME_DIR alone if that is set, else /run/coroipc and
$XDG_RUNTIME_DIR/coroipc), and through all listening sockets whose process has coroipc loaded. Of other users'
processes only root can see that.

Services and connections are told by servers with \`new Server({ inspect: true })\` that let this user ask.

Examples:
  coroipc list
  coroipc list --json | jq -r 'select(.connections > 0).name'`,

  async run({ values, output }) {
    const choice = inspectorChoice(values, TIMEOUT_MS)
    const all = await Promise.all(findServers().map((found) => look(found, choice)))
    const listed = all.filter(({ state }) => flag(values, 'dead') || state !== 'dead')
    if (output.json) {
      for (const each of listed) output.record(each)
      return
    }
    if (listed.length > 0)
      output.table(
        [
          { title: 'NAME' },
          { title: 'PID', align: 'right' },
          { title: 'USER' },
          { title: 'PROGRAM', shrink: true },
          { title: 'CONNECTIONS', align: 'right' },
          { title: 'SERVICES', shrink: true },
        ],
        listed.map(({ name, pid, uid, program, connections, services, note, state }) => [
          state === 'serving' ? printable(name) : output.style('dim', printable(name)),
          pid ?? '-',
          uid === undefined ? '-' : userName(uid),
          printable(program ?? '-'),
          connections === undefined ? '-' : count(connections),
          note === undefined ? servicesText(services) : output.style('dim', printable(note)),
        ]),
      )
    else output.note('no servers')
    const dead = all.length - listed.length
    if (dead > 0)
      output.note(`${dead} dead ${dead === 1 ? 'socket' : 'sockets'}: coroipc list --dead`)
  },
}
