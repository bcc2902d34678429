/** `coroipc health`: whether a server answers; for systemd, Kubernetes and scripts. */
import { probe } from '@coroipc/ipcc'
import {
  type Command,
  Exit,
  ID_MAX,
  integerOption,
  serverArgument,
  timeoutOption,
} from '../command.js'

const DEFAULT_MS = 1000

export const command: Command = {
  summary: 'Whether a server answers, as an exit code',
  arguments: [serverArgument],
  options: {
    service: {
      type: 'string',
      value: 'NUMBER',
      help: 'a service that has to let this user in; without it any answer will do',
    },
    timeout: { type: 'string', value: 'MS', help: `time for the answer (${DEFAULT_MS})` },
  },
  details: `Connects, asks for nothing and leaves: the server's thread has to answer the handshake, so one that hangs or
is blocked is found out, and one that is closing does not listen any more. Exit code 0: healthy; 1: it
answered, but not as was asked; 3: nobody listens; 4: no answer in time; 5: it went away meanwhile.

Examples:
  coroipc health demo
  coroipc health /run/app/demo.sock --service 7 --timeout 500`,

  async run({ values, positionals, output }) {
    const [name = ''] = positionals
    const service = integerOption(values, 'service', 0, ID_MAX)
    const timeoutMs = timeoutOption(values, 'timeout') ?? DEFAULT_MS
    const found = await probe(name, { service, timeoutMs })
    const { healthy, ms, code } = found
    if (output.json) output.record(found)
    else if (healthy) output.line(`${name} answered in ${ms.toFixed(1)} ms`)
    else output.line(`${name} is not healthy: ${code}, after ${ms.toFixed(1)} ms`)
    if (healthy) return Exit.ok
    if (code === 'ERR_COROIPC_CONNECT_REFUSED') return Exit.noConnection
    if (code === 'ERR_COROIPC_TIMED_OUT') return Exit.timedOut
    return code === 'ERR_COROIPC_PEER_DEAD' || code === 'ERR_COROIPC_DISCONNECTED'
      ? Exit.lost
      : Exit.failed
  },
}
