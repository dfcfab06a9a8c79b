// The service of tests/grpc_clients.rs.
import { readFileSync } from 'node:fs'

const control = process.env.CONTROL
export const tokens = JSON.parse(process.env.TOKENS)
export const secret = process.env.SECRET
export const { refusals, retries } = JSON.parse(readFileSync(new URL('../grpc.json', import.meta.url), 'utf8'))
export const challengeOf = (token) => refusals.find((refusal) => refusal.token === token).challenge

async function ask(path, method = 'GET') {
  const response = await fetch(control + path, { method })
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`)
  const text = await response.text()
  return text && JSON.parse(text)
}

// A separate server, which reports the decisions of its guard. gRPC-Web is translated `inside` or `outside` of the guard.
export async function startSite(web = 'inside') {
  const { id, url } = await ask(`/start/${web}`, 'POST')
  return {
    url,
    store: (state) => ask(`/${id}/store/${state}`, 'POST'),
    counts: () => ask(`/${id}/counts`),
  }
}

// The expected number of each decision when so many calls get every refusal.
export const decisions = (calls) => Object.fromEntries(refusals.map(({ decision }) => [decision, calls]))

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
