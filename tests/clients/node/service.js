// The running example `standalone` with examples/standalone.toml.
import { readFileSync } from 'node:fs'

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))

export const issuer = process.env.ISSUER && new URL(process.env.ISSUER)
export const api = 'https://api.example.test/'
export const other = 'https://other.example.test/'
export const clients = read('../clients.json')
export const [basic, post, odd, limited, gateway] = Object.values(clients)
export const route = (path) => new URL(path, issuer)
export const versionOf = (library) => read(`node_modules/${library}/package.json`).version
