// The clients of @modelcontextprotocol/sdk and of its successor @modelcontextprotocol/client against the running example `mcp`.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as successor from '@modelcontextprotocol/client'
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { resource, secret } from './mcp.js'
import { versionOf } from './service.js'

const issuer = resource.origin
const PROTECTED_RESOURCE = '/.well-known/oauth-protected-resource/mcp'
const DISCOVERY = [`GET ${PROTECTED_RESOURCE} 200`, 'GET /.well-known/oauth-authorization-server 200']

const SDKS = [
  {
    name: '@modelcontextprotocol/sdk',
    sdk: { Client, ClientCredentialsProvider, StreamableHTTPClientTransport },
    codeOf: (error) => error.errorCode,
  },
  { name: '@modelcontextprotocol/client', sdk: successor, codeOf: (error) => error.code },
]

// Connects, calls the tool and disconnects. Returns the tool's result, and every request with the status of its response.
async function whoami({ sdk, clientOptions }, options, tokens) {
  const requests = []
  const authProvider = new sdk.ClientCredentialsProvider({
    clientId: 'agent',
    clientSecret: secret,
    expectedIssuer: issuer,
    ...options,
  })
  if (tokens) authProvider.saveTokens(tokens)
  const transport = new sdk.StreamableHTTPClientTransport(resource, {
    authProvider,
    async fetch(url, init) {
      const response = await fetch(url, init)
      requests.push(`${init?.method ?? 'GET'} ${new URL(url).pathname} ${response.status}`)
      return response
    },
  })
  const client = new sdk.Client({ name: 'test', version: '1' }, clientOptions)
  try {
    await client.connect(transport)
    const { tools } = await client.listTools()
    assert.deepEqual(tools.map((tool) => tool.name), ['whoami'])
    const { content } = await client.callTool({ name: 'whoami', arguments: {} })
    await transport.terminateSession()
    return { said: content, requests }
  } catch (error) {
    return { error, requests }
  } finally {
    await client.close()
  }
}

// In any order, and without the server's stream, which may open too late to be recorded.
const session = (requests) => requests.filter((request) => request !== 'GET /mcp 200').toSorted()
const SESSION = [
  'POST /mcp 200', // initialize
  'POST /mcp 202', // notifications/initialized
  'POST /mcp 200', // tools/list
  'POST /mcp 200', // tools/call
  'DELETE /mcp 202',
]
const AGENT = [{ type: 'text', text: 'agent' }]

for (const tested of SDKS) {
  describe(`the client of ${tested.name} ${versionOf(tested.name)}`, () => {
    for (const [what, options, tokens] of [
      ['without a scope', {}],
      ['with a scope', { scope: 'mcp:use' }],
      ['in place of a token that is not valid', {}, { access_token: 'a.b.c', token_type: 'Bearer' }],
    ]) {
      it(`finds the issuer, gets one token ${what}, and calls a tool`, async () => {
        const { said, requests } = await whoami(tested, options, tokens)
        assert.deepEqual(said, AGENT)
        assert.deepEqual(requests.slice(0, 4), ['POST /mcp 401', ...DISCOVERY, 'POST /token 200'])
        assert.deepEqual(session(requests.slice(4)), session(SESSION))
      })
    }

    it('reports a wrong secret and an unknown client, and retries at most once', async () => {
      for (const options of [{ clientSecret: 'wrong' }, { clientId: 'unknown' }]) {
        const { error, requests } = await whoami(tested, options)
        assert.equal(tested.codeOf(error), 'invalid_client')
        const attempt = [...DISCOVERY, 'POST /token 401']
        assert.deepEqual(requests, ['POST /mcp 401', ...attempt, ...attempt])
      }
    })

    it('sends no secret to an unexpected issuer', async () => {
      const { error, requests } = await whoami(tested, { expectedIssuer: 'http://127.0.0.1:9/' })
      assert.match(error.message, /is not presented to|Authorization server mismatch/)
      assert.deepEqual(requests, ['POST /mcp 401', ...DISCOVERY])
    })
  })
}

describe('a client', () => {
  // The successor requests the scopes that the challenge or the metadata names, regardless of its configuration.
  it('reports a scope that it may not have, and does not retry', async () => {
    const { error, requests } = await whoami(SDKS[0], { scope: 'admin' })
    assert.equal(error.errorCode, 'invalid_scope')
    assert.deepEqual(requests, ['POST /mcp 401', ...DISCOVERY, 'POST /token 400'])
  })

  it('needs no session with the 2026 revision of the protocol', async () => {
    const clientOptions = { versionNegotiation: { mode: 'auto' } }
    const { said, requests } = await whoami({ ...SDKS[1], clientOptions })
    assert.deepEqual(said, AGENT)
    assert.deepEqual(requests.slice(0, 4), ['POST /mcp 401', ...DISCOVERY, 'POST /token 200'])
    assert.deepEqual(new Set(requests.slice(4)), new Set(['POST /mcp 200']))
  })
})
