// A server in a worker of its own, so that the test's thread may block: for blocking natives.
import { parentPort, workerData } from 'node:worker_threads'
import { addon } from '@coroipc/native'
import { openServer, serve } from './support.js'

const { name } = workerData as { name: string }
const server = openServer(name, serve)
addon.attach(server.loop.handle)
parentPort?.on('message', () => {
  parentPort?.close()
  addon.serverClose(server.loop.handle)
  addon.serverDestroy(server.loop.handle)
})
parentPort?.postMessage('listening')
