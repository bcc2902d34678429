/**
 * The table of commands. To add one: write `commands/NAME.ts`, which exports a `command` of type `Command`, and its
 * line here. Parsing, `--help`, `--json`, completion and the test of docs/reference/cli.md follow from it.
 *
 * Each is loaded when it is asked for: nobody waits for what another command needs.
 */
import type { Command } from '../command.js'

type Load = () => Promise<{ readonly command: Command }>

/** In the order of the help. */
export const commands: Readonly<Record<string, Load>> = {
  list: () => import('./list.js'),
  describe: () => import('./describe.js'),
  top: () => import('./top.js'),
  inspect: () => import('./inspect.js'),
  health: () => import('./health.js'),
  record: () => import('./record.js'),
  replay: () => import('./replay.js'),
  call: () => import('./call.js'),
  listen: () => import('./listen.js'),
  hz: () => import('./hz.js'),
  doctor: () => import('./doctor.js'),
  bench: () => import('./bench.js'),
  completion: () => import('./completion.js'),
}
