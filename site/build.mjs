// `npm run docs`: the documentation as a folder of static pages, build/docs/site, that works from file:// and offline.
// Pages of the manual (docs/, README.md and its like), examples and C headers as code, and the docstrings of each package.
//
// They are staged first, in a tree of the same shape as the repository so that their links stay as they are: each with
// its heading as its title, sections with their pages as children. typedoc makes the pages and the search. It wants a
// TypeScript that has an API, so it lives here, in a folder with a lock file of its own.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { entryPoints } from '../scripts/entry-points.mjs'
import { brokenLinks } from './links.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const here = join(root, 'site')
const staged = join(root, 'build/docs/pages')
const output = join(root, 'build/docs/site')
process.chdir(root)

const read = (path) => readFileSync(path, 'utf8')
// The order of a section's pages is that in which docs/README.md first names them; what it leaves out comes last.
const contents = read('docs/README.md')
const place = (path) => {
  const at = contents.indexOf(`(${relative('docs', path)}`)
  return at < 0 ? Infinity : at
}
const markdownIn = (folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .map((name) => join(folder, name))
    .sort()
    .sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)))

/** Folders below `folder` that hold files which git knows, with these files. */
function sourcesBelow(folder) {
  const { stdout } = spawnSync(
    'git',
    ['ls-files', '--cached', '--others', '--exclude-standard', folder],
    { encoding: 'utf8' },
  )
  const folders = new Map()
  for (const path of stdout.split('\n').filter((path) => path.split('/').length > 2)) {
    if (!existsSync(path)) continue
    const [top, name] = path.split('/')
    const key = join(top, name)
    folders.set(key, [...(folders.get(key) ?? []), path])
  }
  return folders
}

/** The comment that a source file begins with, as Markdown: what is indented there is code. */
function opening(source) {
  const lines = source.replace(/^#!.*\n/, '').split('\n')
  const end = lines.findIndex((line) => !line.startsWith('//'))
  return lines
    .slice(0, end)
    .map((line) => line.replace(/^\/\/ ?/, ''))
    .join('\n')
    .replace(/^(?! {2}).*$/gm, (line) => line.replaceAll('<', '&lt;'))
    .replace(/^ {2}/gm, '    ')
    .trim()
}

const languages = { '.ts': 'ts', '.mjs': 'js', '.c': 'c', '.h': 'c', '.json': 'json', '.sh': 'sh' }
const code = (path) =>
  `\`\`\`${languages[extname(path)] ?? 'text'}\n${read(path).trimEnd()}\n\`\`\`\n`

// Where each page comes from; a section is a page with pages below it.
const page = (path, more = {}) => ({ path, text: read(path), children: [], ...more })
const section = (path, title, text, children) => ({
  path,
  text: `# ${title}\n\n${text}\n`,
  children,
  listed: true,
})

const manual = (folder, title, text) =>
  section(
    join(folder, 'index.md'),
    title,
    text,
    markdownIn(folder).map((path) => page(path)),
  )

function examples() {
  const pages = [...sourcesBelow('examples')].map(([folder, files]) => {
    const main =
      files.find((file) => file.endsWith('main.ts')) ??
      files.find((file) => file.endsWith('server.ts'))
    const first = [main, ...files].find((file) => file !== undefined && opening(read(file)) !== '')
    const readme = files.find((file) => basename(file) === 'README.md')
    const sources = files.filter((file) => languages[extname(file)] !== undefined)
    const about = readme ? read(readme).replace(/^# .*\n/, '') : first ? opening(read(first)) : ''
    const parts = sources.map((file) => `## ${relative(folder, file)}\n\n${code(file)}`)
    return {
      path: `${folder}.md`,
      text: `# ${basename(folder)}\n\n${about}\n\n${parts.join('\n')}`,
      children: [],
    }
  })
  return section(
    'examples/index.md',
    'Examples',
    'Whole programs; the tests run each of them.',
    pages,
  )
}

const headers = () =>
  section(
    'native/include/index.md',
    'C headers',
    'The C API, as the compiler reads it. Each header begins with a tour; [the C API](../../docs/guide/c-api.md) is the guide.',
    readdirSync('native/include/coroipc')
      .sort()
      .map((name) => {
        const path = join('native/include/coroipc', name)
        return { path: `${path}.md`, text: `# ${name}\n\n${code(path)}`, children: [] }
      }),
  )

const sections = [
  page('docs/README.md'),
  manual(
    'docs/guide',
    'Guide',
    'Teaches, and says why. Read the first two pages; the others when you need them.',
  ),
  manual('docs/reference', 'Reference', 'States what everything does: one page a noun.'),
  manual(
    'docs/migration',
    'Migration',
    'What you use now beside what you would write here; both run in the tests.',
  ),
  examples(),
  page('docs/performance.md', { children: [page('bench/README.md')] }),
  manual(
    'docs/internals',
    'Internals',
    'How it works inside, what is trusted, and how that is tested.',
  ),
  manual(
    'docs/decisions',
    'Decisions',
    'One page for each choice: context, options, decision, consequences.',
  ),
  headers(),
  ...['CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'].map((path) => page(path)),
]

const all = [page('README.md')]
for (let waiting = [...sections]; waiting.length > 0; ) {
  const next = waiting.shift()
  all.push(next)
  waiting.push(...next.children)
}
const known = new Set(all.map(({ path }) => path))

const titleOf = ({ text }) => /^# (.*)$/m.exec(text)?.[1] ?? ''

/** The first paragraph behind the heading, for lists. */
const summaryOf = ({ text }) => {
  const paragraph = text
    .replace(/^# .*$/m, '')
    .replace(/^```[\s\S]*?^```$/gm, '')
    .split(/\n\n+/)
    .map((each) => each.trim())
    .find((each) => each !== '' && !/^[|#<-]/.test(each))
  return (
    paragraph
      ?.replace(/\s+/g, ' ')
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replace(/(?<=\.) (?=[A-Z]).*$/, '')
      .replace(/:$/, '.') ?? ''
  )
}

/** Links to folders and sources become links to their page, or text where there is none. */
function relink(from, text) {
  const convert = (whole, label, target) => {
    if (/^[a-z]+:|^#/.test(target)) return whole
    const [path, anchor = ''] = target.split(/(?=#)/)
    const full = normalize(join(dirname(from), path)).replace(/\/$/, '')
    const found = [full, `${full}.md`, join(full, 'index.md')].find((each) => known.has(each))
    if (found === undefined) return label
    return `[${label}](${relative(dirname(from), found) || basename(found)}${anchor})`
  }
  return text
    .split(/(^```[\s\S]*?^```$)/m)
    .map((part, index) =>
      index % 2 === 1 ? part : part.replace(/\[([^\]]+)\]\(([^)\s]+)\)/g, convert),
    )
    .join('')
}

function stage(each) {
  const file = join(staged, each.path)
  const list = each.listed
    ? each.children
        .map(
          (child) =>
            `- [${titleOf(child)}](${relative(dirname(each.path), child.path)}): ${summaryOf(child)}`,
        )
        .join('\n')
    : ''
  const isReadme = each.path === 'README.md'
  const children = each.children.map(
    (child) => `  - ${JSON.stringify(relative(dirname(each.path), child.path))}\n`,
  )
  const front = `---\ntitle: ${JSON.stringify(titleOf(each).replaceAll('`', ''))}\n${children.length > 0 ? `children:\n${children.join('')}` : ''}---\n`
  const body = relink(each.path, `${each.text}\n${list}\n`).replace(
    /^# .*\n/m,
    isReadme ? '$&' : '',
  )
  // What stands behind a language tells our tests what a block is.
  const plain = body.replace(/^```(\w+) .*$/gm, '```$1')
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, isReadme ? plain : `${front}${plain}`)
}

rmSync(join(root, 'build/docs'), { recursive: true, force: true })
for (const each of all) stage(each)

const { Application, Converter, PageEvent } = await import('typedoc')
const entries = entryPoints(root)
const app = await Application.bootstrap({
  entryPoints: entries.map(({ source }) => source),
  tsconfig: join(here, 'tsconfig.json'),
  // The sources of every package, without a build before.
  compilerOptions: {
    paths: {
      '@coroipc/native': ['../native/lib/index.ts'],
      ...Object.fromEntries(
        entries.map(({ specifier, source }) => [specifier, [join('..', source)]]),
      ),
    },
  },
  name: 'coroipc for Node.js',
  basePath: root,
  displayBasePath: root,
  readme: join(staged, 'README.md'),
  projectDocuments: sections.map(({ path }) => join(staged, path)),
  router: 'structure',
  markdownItOptions: { html: true, linkify: false },
  out: output,
  customCss: join(here, 'style.css'),
  disableSources: true,
  excludeInternal: true,
  excludePrivate: true,
  excludeExternals: true,
  hideGenerator: true,
  includeVersion: false,
  searchInComments: true,
  searchInDocuments: true,
  sort: ['source-order'],
  sortEntryPoints: false,
  navigation: { includeGroups: false, includeCategories: false },
  headings: { readme: false, document: true },
  highlightLanguages: ['js', 'ts', 'c', 'cpp', 'sh', 'json', 'ini', 'diff', 'proto'],
  ignoredHighlightLanguages: ['text', 'pml'],
  kindSortOrder: ['Document', 'Module'],
  validation: { invalidLink: true, invalidPath: true, notExported: false },
  treatValidationWarningsAsErrors: true,
  includeHierarchySummary: false,
  githubPages: false,
})
app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
  for (const child of project.children ?? []) {
    const entry = entries.find(
      ({ source }) => `${child.name}.ts` === source || join(child.name, 'index.ts') === source,
    )
    if (entry !== undefined) child.name = entry.specifier
  }
})
// A link to the first page is one to its folder, which only a server would answer with the page.
app.renderer.on(PageEvent.END, (event) => {
  event.contents = event.contents?.replace(/href="((?:\.\.?\/)+)"/g, 'href="$1index.html"')
})
const project = await app.convert()
if (project === undefined) process.exit(1)
app.validate(project)
if (app.logger.hasErrors()) process.exit(1)
await app.generateOutputs(project)

const broken = brokenLinks(output)
for (const { page: from, link, why } of broken) console.error(`${from}: ${link}: ${why}`)
const count = readdirSync(output, { recursive: true }).filter((name) =>
  name.endsWith('.html'),
).length
console.log(`${relative(root, output)}/index.html: ${count} pages, ${broken.length} broken links`)
process.exitCode = broken.length > 0 || app.logger.hasErrors() ? 1 : 0
