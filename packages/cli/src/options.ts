/** The options of a command: its own and those that every one has. */
import type { Command, Options } from './command.js'

/** What every command takes. */
const common: Options = {
  json: { type: 'boolean', help: 'for machines: JSON, one value a line' },
  help: { type: 'boolean', short: 'h', help: 'this help' },
}

/** Options of a command, the common ones behind its own. */
export function optionsOf(command: Command): Options {
  return {
    ...command.options,
    ...Object.fromEntries(
      Object.entries(common).filter(([name]) => command.options?.[name] === undefined),
    ),
  }
}
