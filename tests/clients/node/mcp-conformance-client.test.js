// The client mode of @modelcontextprotocol/conformance against the example `mcp_client`, whose path is MCP_CLIENT. The other
// scenarios with authorization need a user and a browser (the authorization code, as `auth/scope-step-up` does; tests/client/scopes.rs
// requests more scopes by client credentials), a public client, or a request without a token, which the layer never sends:
// `metadata-var3` has its metadata only in the 401.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

// The scenarios that apply, and the checks that must succeed. In the last two, the client must give up.
const APPLICABLE = {
  'auth/client-credentials-basic': ['client-credentials-basic-auth', 'prm-pathbased-requested', 'authorization-server-metadata', 'valid-bearer-token'],
  'auth/client-credentials-jwt': ['client-credentials-jwt-verified', 'prm-pathbased-requested', 'authorization-server-metadata', 'valid-bearer-token'],
  'auth/pre-registration': ['pre-registration-auth', 'prm-pathbased-requested', 'authorization-server-metadata', 'valid-bearer-token'],
  'auth/metadata-default': ['prm-pathbased-requested', 'authorization-server-metadata', 'valid-bearer-token'],
  'auth/metadata-var1': ['prm-pathbased-requested', 'authorization-server-metadata', 'valid-bearer-token'],
  'auth/metadata-var2': ['authorization-server-metadata', 'valid-bearer-token'],
  'auth/token-endpoint-auth-basic': ['token-endpoint-auth-method', 'valid-bearer-token'],
  'auth/resource-mismatch': ['resource-mismatch-rejected'],
  'auth/metadata-issuer-mismatch': ['sep-2468-client-validate-metadata-issuer'],
}

// Checks of the authorization code and of registration, which this grant does not have. Only these may fail.
const NOT_OF_THIS_GRANT = ['authorization-request', 'client-registration', 'resource-parameter-in-authorization']

const main = fileURLToPath(new URL('node_modules/@modelcontextprotocol/conformance/dist/index.js', import.meta.url))
const wrapper = fileURLToPath(new URL('mcp-conformance-client.js', import.meta.url))

function run(scenario, results) {
  const command = [main, 'client', '--command', `${process.execPath} ${wrapper}`, '--scenario', scenario, '--output-dir', results]
  return new Promise((resolve) => execFile(process.execPath, command, { timeout: 120_000 }, (_, stdout, stderr) => resolve(stdout + stderr)))
}

describe('@modelcontextprotocol/conformance, client mode', () => {
  for (const [scenario, expected] of Object.entries(APPLICABLE)) {
    it(scenario, async () => {
      const results = await mkdtemp(join(tmpdir(), 'mcp-conformance-client-'))
      try {
        const output = await run(scenario, results)
        const files = await readdir(results, { recursive: true })
        const file = files.find((name) => name.endsWith('checks.json'))
        assert.ok(file, output)
        const checks = JSON.parse(await readFile(join(results, file), 'utf8'))
        const failed = checks.filter((check) => check.status === 'FAILURE' && !NOT_OF_THIS_GRANT.includes(check.id))
        assert.deepEqual(failed, [], JSON.stringify(failed))
        for (const id of expected) {
          assert.ok(checks.some((check) => check.id === id && check.status === 'SUCCESS'), `${id}: ${JSON.stringify(checks)}`)
        }
        console.log(`${scenario}: ${checks.filter((check) => check.status === 'SUCCESS').length} checks succeeded`)
      } finally {
        await rm(results, { recursive: true })
      }
    })
  }
})
