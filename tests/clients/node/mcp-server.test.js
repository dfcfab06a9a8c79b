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

// Connects, calls the tool and hangs up. Returns what the tool said and every request with the status of its answer.
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

// In any order, and without the stream of the server, which may open too late to be seen.
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

    it('is told of a wrong secret and of an unknown client, and asks at most once more', async () => {
      for (const options of [{ clientSecret: 'wrong' }, { clientId: 'unknown' }]) {
        const { error, requests } = await whoami(tested, options)
        assert.equal(tested.codeOf(error), 'invalid_client')
        const attempt = [...DISCOVERY, 'POST /token 401']
        assert.deepEqual(requests, ['POST /mcp 401', ...attempt, ...attempt])
      }
    })

    it('sends no secret to an issuer that it does not expect', async () => {
      const { error, requests } = await whoami(tested, { expectedIssuer: 'http://127.0.0.1:9/' })
      assert.match(error.message, /is not presented to|Authorization server mismatch/)
      assert.deepEqual(requests, ['POST /mcp 401', ...DISCOVERY])
    })
  })
}

describe('a client', () => {
  // The successor asks for the scopes that the challenge or the metadata names, whatever it is configured to.
  it('is told of a scope that it may not have, and does not ask again', async () => {
    const { error, requests } = await whoami(SDKS[0], { scope: 'admin' })
    assert.equal(error.errorCode, 'invalid_scope')
    assert.deepEqual(requests, ['POST /mcp 401', ...DISCOVERY, 'POST /token 400'])
  })

  it('needs no session by the revision of 2026', async () => {
    const clientOptions = { versionNegotiation: { mode: 'auto' } }
    const { said, requests } = await whoami({ ...SDKS[1], clientOptions })
    assert.deepEqual(said, AGENT)
    assert.deepEqual(requests.slice(0, 4), ['POST /mcp 401', ...DISCOVERY, 'POST /token 200'])
    assert.deepEqual(new Set(requests.slice(4)), new Set(['POST /mcp 200']))
  })
})
