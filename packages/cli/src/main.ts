/** The command line `coroipc`: finds the command, reads its arguments, shows what goes wrong. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { type Command, Exit, UsageError, type Values } from './command.js'
import { commands } from './commands/index.js'
import { exitCode, showError } from './errors.js'
import { commandHelp, generalHelp, usageOf } from './help.js'
import { didYouMean } from './near.js'
import { optionsOf } from './options.js'
import { Output } from './output.js'

/** The version of this package. */
export function version(): string {
  const manifest = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { version: string }).version
}

/** Loads a command. @throws UsageError for one that there is not */
export async function findCommand(name: string): Promise<Command> {
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined)
    throw new UsageError(`there is no command '${name}'${didYouMean(name, Object.keys(commands))}`)
  return (await load()).command
}

async function summaryOf(name: string): Promise<string> {
  try {
    return (await findCommand(name)).summary
  } catch {
    return 'cannot be loaded here: `coroipc doctor` says why'
  }
}

async function summaries(): Promise<[string, string][]> {
  return Promise.all(
    Object.keys(commands).map(
      async (name): Promise<[string, string]> => [name, await summaryOf(name)],
    ),
  )
}

interface Parsed {
  readonly values: Values
  readonly positionals: string[]
}

/** Reads the arguments of a command. @throws UsageError, which names what is near an unknown option */
export function parse(command: Command, args: readonly string[]): Parsed {
  const options = optionsOf(command)
  const config = Object.fromEntries(
    Object.entries(options).map(([name, { type, short, multiple }]) => [
      name,
      { type, ...(short === undefined ? {} : { short }), multiple: multiple ?? false },
    ]),
  )
  const loose = parseArgs({
    args: [...args],
    options: config,
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  for (const token of loose.tokens) {
    if (token.kind === 'option' && options[token.name] === undefined) {
      const near = token.rawName.startsWith('--')
        ? didYouMean(token.name, Object.keys(options), '--')
        : ''
      throw new UsageError(`there is no option '${token.rawName}'${near}`)
    }
  }
  let strict: { values: Values; positionals: string[] }
  try {
    strict = parseArgs({ args: [...args], options: config, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message.split('\n')[0] ?? '')
  }
  for (const [name, { choices }] of Object.entries(options)) {
    const value = strict.values[name]
    if (choices !== undefined && typeof value === 'string' && !choices.includes(value))
      throw new UsageError(
        `--${name}: expected one of ${choices.join(', ')}, got '${value}'${didYouMean(value, choices)}`,
      )
  }
  return strict
}

/** Whether so many positional arguments are taken. @throws UsageError */
function checkPositionals(name: string, command: Command, positionals: readonly string[]): void {
  const args = command.arguments ?? []
  const missing = args.find(
    (each, index) => each.optional !== true && positionals[index] === undefined,
  )
  if (missing !== undefined)
    throw new UsageError(`${missing.name} is missing: ${usageOf(name, command)}`)
  if (args.at(-1)?.many !== true && positionals.length > args.length)
    throw new UsageError(
      `'${positionals[args.length]}' is one argument too many: ${usageOf(name, command)}`,
    )
}

/** Whether what goes wrong is to be told to a machine, before the arguments are known to be right. */
function wantsJson(command: Command, args: readonly string[]): boolean {
  const form = args[args.indexOf('--output') + 1]
  const asOutput = args.includes('--output=json') || (args.includes('--output') && form === 'json')
  return asOutput || (optionsOf(command)['json']?.type === 'boolean' && args.includes('--json'))
}

async function runCommand(name: string, args: readonly string[]): Promise<number> {
  let output = new Output(false)
  try {
    const command = await findCommand(name)
    output = new Output(wantsJson(command, args))
    const { values, positionals } = parse(command, args)
    if (values.help === true) {
      output.line(commandHelp(name, command, optionsOf(command)).trimEnd())
      return Exit.ok
    }
    checkPositionals(name, command, positionals)
    return (await command.run({ values, positionals, output })) ?? Exit.ok
  } catch (error) {
    showError(output, error)
    if (error instanceof UsageError && !output.json) {
      const known = Object.hasOwn(commands, name) ? `${name} ` : ''
      output.note(`  help: coroipc ${known}--help`)
    }
    return exitCode(error)
  }
}

/**
 * Runs the command line.
 *
 * @param args what stands behind `coroipc`
 * @returns the exit code; never rejects
 */
export async function main(args: readonly string[]): Promise<number> {
  // `coroipc ... | head`: a reader that has seen enough is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? Exit.ok : Exit.failed)
  })
  const [first, ...rest] = args
  if (first === '--version') {
    process.stdout.write(`${version()}\n`)
    return Exit.ok
  }
  if (first === undefined || first === '--help' || first === '-h') {
    const help = generalHelp(await summaries())
    ;(first === undefined ? process.stderr : process.stdout).write(help)
    return first === undefined ? Exit.usage : Exit.ok
  }
  if (first === 'help')
    return rest[0] === undefined ? main(['--help']) : runCommand(rest[0], ['--help'])
  if (first.startsWith('-')) {
    const output = new Output(false)
    showError(output, new UsageError(`a command comes first, not '${first}'`))
    output.note('  help: coroipc --help')
    return Exit.usage
  }
  return runCommand(first, rest)
}
