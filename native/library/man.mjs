// Man pages out of the C headers, which are the only place where the API is described:
//
//   node man.mjs VERSION DIRECTORY HEADER...
//
// One page for each header that declares functions, with its tour and every declaration below its own comment; and for each
// function a page that leads there, so that `man coroipcc_connect` works.
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const [version, directory, ...headers] = process.argv.slice(2)

/** Text as roff takes it: nothing in it is a request or an escape. */
const roff = (text) =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^([.'])/gm, '\\&$1')

/** The text of a comment, without its frame. */
const inside = (comment) =>
  comment
    .replace(/^\/\*+ ?|\s*\*\/$/g, '')
    .replace(/^ \* ?/gm, '')
    .trimEnd()

const verbatim = (text) => `.PP\n.nf\n.RS 0\n${roff(text)}\n.RE\n.fi\n`
const paragraph = (text) => `.PP\n.nf\n.RS 4\n${roff(text)}\n.RE\n.fi\n`

/** Pieces of a header: comments, and the declarations between them, in order. */
function pieces(source) {
  const found = []
  // Declarations end at a line that is empty or begins a comment; comments inside of them belong to them.
  for (const block of source.split(/\n{2,}|\n(?=\/\*)/)) {
    const comment = /^\/\*[^]*?\*\/(?=\n|$)/.exec(block)?.[0]
    const code = block.slice(comment?.length ?? 0).trim()
    found.push({ comment: comment && inside(comment), code })
  }
  return found
}

const isPlumbing = (code) =>
  code
    .split('\n')
    .every((line) =>
      /^(?:#(?:ifn?def|endif|include|if|else|undef)\b.*|#define COROIPC\w*_H|extern "C" \{|\})?$/.test(
        line,
      ),
    )

for (const header of headers) {
  const source = readFileSync(header, 'utf8')
  const names = [...source.matchAll(/\b(coroipc[cs]?_\w+)\(/g)]
    .map(([, name]) => name)
    .filter((name, index, all) => all.indexOf(name) === index)
    .filter((name) => new RegExp(`COROIPC_API[^;]*\\b${name}\\(`).test(source))
  if (names.length === 0) continue
  const title = { 'types.h': 'coroipc' }[basename(header)] ?? basename(header, '.h')
  const [tour, ...rest] = pieces(source)
  const [, summary = ''] = /^\S+: (.*?)\.?(?:\n|$)/.exec(tour.comment) ?? []
  let page = `.TH ${title} 3 "" "coroipc ${version}"\n.SH NAME\n${names.map(roff).join(', ')} \\- ${roff(summary)}\n`
  page += `.SH SYNOPSIS\n.B #include <coroipc/${basename(header)}>\n.PP\nLink with the output of\n.B pkg-config \\-\\-cflags \\-\\-libs coroipc\n`
  page += `.SH DESCRIPTION\n${verbatim(tour.comment)}`
  for (const { comment, code } of rest) {
    const section = comment && /^-- (.*?)\s*-*$/.exec(comment.split('\n')[0])?.[1]
    if (section) page += `.SH ${roff(section.toUpperCase())}\n`
    const shown = code.replaceAll('COROIPC_API ', '')
    if (!isPlumbing(code)) page += verbatim(shown)
    if (comment && !section) page += paragraph(comment)
  }
  const others = ['coroipc', 'coroipcc', 'coroipcs'].filter((other) => other !== title)
  page += `.SH SEE ALSO\n${others.map((other) => `.BR ${other} (3)`).join(',\n')}\n`
  writeFileSync(join(directory, `${title}.3`), page)
  for (const name of names) writeFileSync(join(directory, `${name}.3`), `.so man3/${title}.3\n`)
}
