/** `coroipc completion`: the script that a shell completes by, and the words that the script asks for. */
import { type Command, textOption, UsageError } from '../command.js'
import { completions } from '../complete.js'

// Bash replaces what stands behind the last of COMP_WORDBREAKS, which '=' and ':' are among: what it keeps is cut off
// the front of each answer. The program is asked under the name that was typed, by a path as well.
const bash = `# bash completion of coroipc. For this shell:    source <(coroipc completion bash)
# For every one:  coroipc completion bash > ~/.local/share/bash-completion/completions/coroipc
_coroipc() {
  local IFS=$'\\n'
  COMPREPLY=($("$1" completion --line "\${COMP_LINE:0:COMP_POINT}" --breaks "$COMP_WORDBREAKS" 2>/dev/null))
}
complete -o default -F _coroipc coroipc
`

/** Characters that begin a word instead of ending one: readline's special prefixes, as bash sets them. */
const begins = '$@'

/** What a shell keeps of the word at the cursor: up to the last character that ends a word for it. */
function kept(line: string, breaks: string): string {
  const current = /\S*$/.exec(line)?.[0] ?? ''
  for (let at = current.length - 1; at >= 0; at--)
    if (breaks.includes(current[at] as string))
      return current.slice(0, begins.includes(current[at] as string) ? at : at + 1)
  return ''
}

export const command: Command = {
  summary: 'Print the script by which a shell completes commands, options and names',
  arguments: [{ name: 'SHELL', help: 'bash', complete: ['bash'], optional: true }],
  options: {
    line: {
      type: 'string',
      value: 'LINE',
      help: 'for the script: what is completed, up to the cursor',
    },
    breaks: {
      type: 'string',
      value: 'CHARS',
      help: 'for the script: what ends a word for the shell',
    },
  },
  details: `  source <(coroipc completion bash)                     in this shell
  coroipc completion bash > ~/.local/share/bash-completion/completions/coroipc
                                                        in every one (package bash-completion)`,

  async run({ values, positionals, output }) {
    const line = textOption(values, 'line')
    if (line === undefined) {
      const shell = positionals[0] ?? 'bash'
      if (shell !== 'bash') throw new UsageError(`SHELL: expected bash, got '${shell}'`)
      process.stdout.write(bash)
      return
    }
    const front = kept(line, textOption(values, 'breaks') ?? '')
    const found = await completions(line)
    if (output.json) output.record(found)
    else for (const each of found) output.line(each.slice(front.length))
  },
}
