// The store from the command line.
//
//   node build/examples/key-value/main.js <name> set totem.token 1000
//   node build/examples/key-value/main.js <name> get totem.token
//   node build/examples/key-value/main.js <name> delete totem.token
//   node build/examples/key-value/main.js <name> list [prefix]
//   node build/examples/key-value/main.js <name> watch [prefix]      until it is interrupted
//
// Exit code: 0 done, 1 no such key or not possible, 2 wrong usage.
import { Store } from './store.js'

const [name, command = '', key = '', value] = process.argv.slice(2)

const commands: Record<string, (store: Store) => Promise<boolean>> = {
  async get(store) {
    const found = await store.get(key)
    if (found !== undefined) console.log(found)
    return found !== undefined
  },
  async set(store) {
    await store.set(key, value ?? '')
    return true
  },
  delete: (store) => store.delete(key),
  async list(store) {
    for await (const each of store.keys(key)) console.log(`${each} = ${await store.get(each)}`)
    return true
  },
  async watch(store) {
    const changes = await store.watch(key)
    process.once('SIGINT', () => void store.close())
    console.log('watching')
    for await (const { key, value } of changes)
      console.log(value === undefined ? `${key} deleted` : `${key} = ${value}`)
    return true
  },
}

const run = Object.hasOwn(commands, command) ? commands[command] : undefined
if (name === undefined || run === undefined) {
  console.error('usage: node main.js <name> <get|set|delete|list|watch> [key or prefix] [value]')
  process.exit(2)
}
try {
  await using store = await Store.open(name)
  if (!(await run(store))) {
    console.error(`no such key: ${key}`)
    process.exitCode = 1
  }
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
