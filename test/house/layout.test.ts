// Rules about the tree itself that no compiler checks.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'

const filesBelow = (directory: string, pattern: RegExp): string[] =>
  (existsSync(join(root, directory))
    ? readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    : []
  )
    .filter((name) => pattern.test(name))
    .map((name) => join(directory, name))

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

t.test('the addon includes the C API, never the core behind it', async (t) => {
  const core = new Set(filesBelow('native/src', /\.h$/).map((path) => basename(path)))
  const found = filesBelow('native/addon', /\.(cc|h)$/).flatMap((path) =>
    [...read(path).matchAll(/^\s*#\s*include\s+["<]([^">]+)[">]/gm)]
      .map((match) => match[1] ?? '')
      .filter(
        (included) => included.includes('src/') || included.includes('..') || core.has(included),
      )
      .map((included) => `${path} includes ${included}`),
  )
  t.same(found, [])
})

/** Source without comments and texts, which may name what code must not use; line breaks stay. */
const codeOnly = (source: string): string =>
  source.replace(/\/\*[^]*?\*\/|\/\/.*|"(?:\\.|[^"\\\n])*"/g, (text) => text.replace(/[^\n]/g, ' '))

/** Where code of ours has what the pattern says: `path:line: text`. */
const uses = (source: string, path: string, pattern: RegExp): string[] =>
  codeOnly(source)
    .split('\n')
    .flatMap((line, index) =>
      [...line.matchAll(pattern)].map((match) => `${path}:${index + 1}: ${match[0].trim()}`),
    )

const sources = [
  ...filesBelow('native/src', /\.(cc|h)$/),
  ...filesBelow('native/addon', /\.(cc|h)$/),
  ...filesBelow('native/include', /\.h$/),
]

// Wall clocks jump, also backwards. Every clock that <time.h>, <sys/time.h>, timerfd_create(2) and <chrono> have is named
// but the monotonic one.
const otherClock =
  /\bCLOCK_(?!MONOTONIC\b)\w+|\b(?:gettimeofday|ftime|timespec_get|clock|time)\s*\(|\b(?:system|utc|file|high_resolution)_clock\b|\bTIME_UTC\b/g

t.test('time is monotonic: no other clock is read', async (t) => {
  t.ok(sources.length > 40, `${sources.length} files are looked at`)
  t.same(
    sources.flatMap((path) => uses(read(path), path, otherClock)),
    [],
  )
  for (const planted of [
    'clock_gettime(CLOCK_REALTIME, &now);',
    'clock_gettime(CLOCK_MONOTONIC_COARSE, &now);',
    'timerfd_create(CLOCK_BOOTTIME, 0);',
    'gettimeofday(&now, nullptr);',
    'seed = time(nullptr);',
    'return std::time (nullptr);',
    'auto now = std::chrono::system_clock::now();',
    'auto now = std::chrono::high_resolution_clock::now();',
  ])
    t.equal(uses(planted, 'x', otherClock).length, 1, planted)
  for (const honest of [
    'clock_gettime(CLOCK_MONOTONIC, &now);',
    '// not CLOCK_REALTIME, nor time()',
    'const Status status = SetTime(deadline);',
    'Log("time (ms)");',
  ])
    t.same(uses(honest, 'x', otherClock), [], honest)
})

// How a shared word is read is told in one file; what goes round it is a builtin, a qualifier, a fence, or the word itself.
const accessors = 'native/src/shared_word.h'
const ownAtomics =
  /\batomic_ref\b|\b__(?:atomic|sync)_\w+|\bvolatile\b|\batomic_(?:thread|signal)_fence\b|\b(?:READ|WRITE)_ONCE\b/g
// The words of the control page, by the names that only they have. `flow_control` is also the name of a counter.
const wordNames =
  'write_position|read_position|reader_sleep|writer_wants|server_closed|client_closed|server_cpu|client_cpu'
const word = new RegExp(`(?:->|\\.)(?:${wordNames})\\b|\\bserver\\.flow_control\\b`, 'g')
const accessor = /\b(?:Load|Store|Exchange)(?:Relaxed|Acquire|SeqCst)\((?:[^()]|\([^()]*\))*/g
const address = /&\s*[\w>.-]+/g

/** Mentions of a shared word outside an accessor's call, but for its address. */
const bareWords = (source: string, path: string): string[] => {
  const blank = (text: string): string => text.replace(/[^\n]/g, ' ')
  return uses(codeOnly(source).replace(accessor, blank).replace(address, blank), path, word)
}

t.test('shared words are read and written by shared_word.h alone', async (t) => {
  const others = sources.filter((path) => path !== accessors)
  t.equal(others.length, sources.length - 1)
  t.not(uses(read(accessors), accessors, ownAtomics).length, 0, 'it is where they are')
  t.same(
    others.flatMap((path) => uses(read(path), path, ownAtomics)),
    [],
  )
  const code = others.filter((path) => !path.startsWith('native/include'))
  t.same(
    code.flatMap((path) => bareWords(read(path), path)),
    [],
  )
  for (const planted of [
    'std::atomic_ref<uint32_t>(words->id).load();',
    '__atomic_store_n(&words->id, 1, __ATOMIC_SEQ_CST);',
    '__sync_synchronize();',
    'auto* p = static_cast<volatile uint32_t*>(address);',
    'std::atomic_thread_fence(std::memory_order_seq_cst);',
  ])
    t.not(uses(planted, 'x', ownAtomics).length, 0, planted)
  for (const planted of [
    'position_ = words_->read_position;',
    'words_->reader_sleep = 1;',
    'if (LoadSeqCst(words_->write_position) != words_->read_position) return;',
    'control_->server.flow_control = 0;',
  ])
    t.equal(bareWords(planted, 'x').length, 1, planted)
  for (const honest of [
    'own_cpu_ = server_ ? &control->server.server_cpu : &control->client.client_cpu;',
    'StoreRelaxed(server_ ? control_->server.server_closed : control_->client.client_closed, 1);',
    'return LoadSeqCst(words_->reader_sleep) != 0 && ExchangeSeqCst(words_->reader_sleep, 0) != 0;',
    'stats_.flow_control = 1;',
  ])
    t.same([...bareWords(honest, 'x'), ...uses(honest, 'x', ownAtomics)], [], honest)
})

t.test('lock files name no registry, so that any will do', async (t) => {
  for (const path of ['package-lock.json', 'test/matrix/package-lock.json']) {
    const { packages } = JSON.parse(read(path)) as {
      packages: Record<string, { resolved?: string }>
    }
    const addresses = Object.values(packages).flatMap(({ resolved }) =>
      resolved?.includes(':') ? [resolved] : [],
    )
    t.same(addresses, [], path)
  }
})

t.test('every package of ours has one way in', async (t) => {
  for (const name of ['native', 'packages/ipcs', 'packages/ipcc', 'packages/cli']) {
    const manifest = JSON.parse(read(`${name}/package.json`)) as {
      type: string
      exports: Record<string, unknown>
    }
    t.equal(manifest.type, 'module', name)
    t.same(Object.keys(manifest.exports), ['.', './package.json'], name)
  }
})
