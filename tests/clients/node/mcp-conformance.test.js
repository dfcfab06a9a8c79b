// The server mode of @modelcontextprotocol/conformance against the running example `mcp`. It has no credentials: a proxy in
// front of the example adds the token.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { resource, secret } from './mcp.js'
import { versionOf } from './service.js'

// The scenarios that apply to a server with one tool, and the number of their checks that must succeed.
const APPLICABLE = {
  'dns-rebinding-protection': 2,
  'http-header-validation': 14,
  'input-required-result-ignore-extra-params': 1,
  'input-required-result-unsupported-methods': 2,
  'input-required-result-validate-input': 3,
  ping: 2,
  'sep-2164-resource-not-found': 2,
  'server-initialize': 3,
  'server-session-lifecycle': 3,
  'server-sse-multiple-streams': 2,
  'server-sse-polling': 2,
  'server-stateless': 21,
  'tools-list': 3,
}

// The other scenarios, and the failing checks of those above, need a tool, a prompt or a resource that the example lacks.
const NEEDS_MORE_TOOLS = {
  'server-stateless': [
    'sep-2575-http-server-no-independent-requests-on-stream',
    'sep-2575-missing-capability-http-400',
    'sep-2575-server-no-log-without-loglevel',
    'sep-2575-server-rejects-undeclared-capability',
  ],
}

async function token() {
  const response = await fetch(new URL('/token', resource), {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`agent:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  return (await response.json()).access_token
}

// Counts the responses by status: a refusal of the guard must not be mistaken for the result of a scenario.
async function startProxy() {
  const authorization = `Bearer ${await token()}`
  const statuses = {}
  const proxy = http.createServer((request, response) => {
    const { url: path, method, headers } = request
    const forwarded = http.request(new URL(path, resource), { method, headers: { ...headers, authorization } }, (answer) => {
      statuses[answer.statusCode] = (statuses[answer.statusCode] ?? 0) + 1
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    forwarded.on('error', () => response.destroy())
    response.on('close', () => forwarded.destroy())
    request.pipe(forwarded)
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  return { proxy, statuses, url: `http://127.0.0.1:${proxy.address().port}/mcp` }
}

const main = fileURLToPath(new URL('node_modules/@modelcontextprotocol/conformance/dist/index.js', import.meta.url))

// The command exits with 1, since the suite has scenarios that do not apply.
function run(url, results) {
  const command = [main, 'server', '--url', url, '--suite', 'all', '--output-dir', results]
  return new Promise((resolve) => execFile(process.execPath, command, { timeout: 120_000 }, (_, stdout) => resolve(stdout)))
}

async function checksOf(results) {
  const checks = {}
  for (const directory of await readdir(results)) {
    const scenario = directory.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT.*$/, '')
    checks[scenario] = JSON.parse(await readFile(join(results, directory, 'checks.json'), 'utf8'))
  }
  return checks
}

describe(`@modelcontextprotocol/conformance ${versionOf('@modelcontextprotocol/conformance')}`, () => {
  let results, checks, proxy, statuses

  before(async () => {
    const started = await startProxy()
    ;({ proxy, statuses } = started)
    results = await mkdtemp(join(tmpdir(), 'mcp-conformance-'))
    const output = await run(started.url, results)
    checks = await checksOf(results)
    assert.ok(Object.keys(checks).length > 0, output)
  })

  after(async () => {
    proxy?.close()
    proxy?.closeAllConnections()
    if (results) await rm(results, { recursive: true })
  })

  for (const [scenario, successes] of Object.entries(APPLICABLE)) {
    it(scenario, () => {
      assert.ok(checks[scenario], 'the scenario ran')
      const failed = checks[scenario].filter((check) => check.status === 'FAILURE')
      assert.deepEqual(failed.map((check) => check.id).toSorted(), NEEDS_MORE_TOOLS[scenario] ?? [], JSON.stringify(failed))
      assert.equal(checks[scenario].filter((check) => check.status === 'SUCCESS').length, successes)
    })
  }

  it('is never refused by the guard', () => {
    // 403 is the example's response to a foreign `Host` or `Origin`.
    const refusedByUs = [401, 429, 500, 503].filter((status) => statuses[status])
    assert.deepEqual(refusedByUs, [], JSON.stringify(statuses))
    assert.ok(statuses[200] > 50, JSON.stringify(statuses))
  })
})
