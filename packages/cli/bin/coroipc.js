#!/usr/bin/env node
// The command: a file of its own, since npm links it before anything is built.
import { main } from '../dist/main.js'

process.exitCode = await main(process.argv.slice(2))
