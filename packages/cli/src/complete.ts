/** What could stand where the cursor is: for the completion of a shell. */
import type { Argument, Command } from './command.js'
import { commands } from './commands/index.js'
import { optionsOf } from './options.js'
import { listeningSockets } from './sockets.js'

/** The words of a line up to the cursor; the last one is the one that is being written. */
export function wordsOf(line: string): string[] {
  const words = ['']
  let quote = ''
  for (let at = 0; at < line.length; at++) {
    const each = line[at] as string
    if (quote !== '' ? each === quote : each === '"' || each === "'")
      quote = quote === '' ? each : ''
    else if (quote === '' && /\s/.test(each)) {
      if (words.at(-1) !== '') words.push('')
    } else {
      if (each === '\\' && quote !== "'") at++
      words[words.length - 1] += line[at] ?? ''
    }
  }
  return words
}

/** A server that does not answer at once is no help to somebody who writes. */
const PATIENCE_MS = 500

/** Names that the server itself tells. */
async function told(server: string, service: string | undefined): Promise<string[]> {
  const { Directory } = await import('./directory.js')
  try {
    await using directory = await Directory.open(server, PATIENCE_MS)
    if (service === undefined) return (await directory.services()).map(([name]) => name)
    const { description } = await directory.service(service)
    return Object.values(description?.requests ?? {}).map(({ name }) => name)
  } catch {
    return []
  }
}

async function argumentChoices(
  argument: Argument | undefined,
  before: readonly string[],
): Promise<readonly string[]> {
  const { complete } = argument ?? {}
  const [server = '', service] = before
  if (complete === 'server')
    return listeningSockets()
      .map(({ name }) => name)
      .filter(noOption)
  if (complete === 'service') return (await told(server, undefined)).filter(noOption)
  if (complete === 'request') return (await told(server, service)).filter(noOption)
  return complete === undefined || complete === 'file' ? [] : complete
}

/** What may stand behind a command's words so far. */
async function choices(
  command: Command,
  before: readonly string[],
  current: string,
): Promise<readonly string[]> {
  const options = optionsOf(command)
  const takesValue = (word: string | undefined): string | undefined =>
    word === undefined
      ? undefined
      : Object.keys(options).find(
          (name) =>
            options[name]?.type === 'string' &&
            (word === `--${name}` || word === `-${options[name]?.short}`),
        )
  const assigned = /^--([\w-]+)=/.exec(current)
  if (assigned !== null)
    return (options[assigned[1] ?? '']?.choices ?? []).map((each) => `${assigned[0]}${each}`)
  const pending = takesValue(before.at(-1))
  if (pending !== undefined) return options[pending]?.choices ?? []
  if (current.startsWith('-'))
    return Object.keys(options)
      .map((name) => `--${name}`)
      .filter((each) => options[each.slice(2)]?.multiple === true || !before.includes(each))
  const positionals = before.filter(
    (word, index) => !word.startsWith('-') && takesValue(before[index - 1]) === undefined,
  )
  return argumentChoices(command.arguments?.[positionals.length], positionals)
}

// What completes a line is run by the next key: names that others gave, to a socket or a service, must mean nothing to a
// shell, nor to the command.
const harmless = /^[\w@.,:=/+-]+$/
const noOption = (name: string): boolean => !name.startsWith('-')

/** Words that complete the line, whole ones. Nothing where nothing is known: file names, then. */
export async function completions(line: string): Promise<string[]> {
  const words = wordsOf(line)
  const current = words.pop() ?? ''
  const [, name, ...before] = words
  const names = Object.keys(commands)
  let found: readonly string[]
  if (name === undefined) found = [...names, 'help', '--help', '--version']
  else if (name === 'help') found = before.length === 0 ? names : []
  else if (!Object.hasOwn(commands, name)) found = []
  else found = await choices((await commands[name]?.())?.command as Command, before, current)
  return found.filter((each) => each.startsWith(current) && harmless.test(each))
}
