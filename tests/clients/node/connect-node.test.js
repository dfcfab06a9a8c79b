// @connectrpc/connect-node against the service of tests/grpc_clients.rs: gRPC, gRPC-Web, and refusals of its own protocol.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { create, createFileRegistry } from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema, file_google_protobuf_wrappers } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError, createClient } from '@connectrpc/connect'
import {
  Http2SessionManager,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node'
import { challengeOf, decisions, refusals, startSite, tokens } from './grpc.js'
import { versionOf } from './service.js'

const MESSAGE = { inputType: '.google.protobuf.StringValue', outputType: '.google.protobuf.StringValue' }
const echo = createFileRegistry(
  create(FileDescriptorProtoSchema, {
    name: 'echo.proto',
    package: 'test',
    syntax: 'proto3',
    dependency: ['google/protobuf/wrappers.proto'],
    service: [
      {
        name: 'Echo',
        method: [
          { name: 'Unary', ...MESSAGE },
          { name: 'ServerStreaming', ...MESSAGE, serverStreaming: true },
          { name: 'ClientStreaming', ...MESSAGE, clientStreaming: true },
          { name: 'Streaming', ...MESSAGE, clientStreaming: true, serverStreaming: true },
        ],
      },
    ],
  }),
  () => file_google_protobuf_wrappers,
).getService('test.Echo')

const KINDS = ['unary', 'serverStreaming', 'clientStreaming', 'streaming']
const ANSWERS = {
  unary: ['billing said one'],
  serverStreaming: Array(3).fill('billing said one'),
  clientStreaming: ['billing sent 2'],
  streaming: ['billing said one', 'billing said two'],
}

async function* stream(messages) {
  for (const value of messages) yield { value }
}

// Makes one call. Returns its responses, and its error if it fails.
async function call(client, kind, token, messages = ['one', 'two']) {
  const request = kind === 'clientStreaming' || kind === 'streaming' ? stream(messages) : { value: messages[0] }
  const headers = token ? { authorization: `Bearer ${tokens[token]}` } : {}
  const answers = []
  try {
    const answer = client[kind](request, { headers, timeoutMs: 20_000 })
    if (kind === 'unary' || kind === 'clientStreaming') answers.push((await answer).value)
    else for await (const { value } of answer) answers.push(value)
    return { answers }
  } catch (error) {
    return { answers, error: ConnectError.from(error) }
  }
}

// gRPC-Web has no streams of requests; such a call over HTTP/1.1 is also refused.
const WEB_KINDS = ['unary', 'serverStreaming']
const TRANSPORTS = [
  { name: 'gRPC', create: createGrpcTransport, served: KINDS },
  ...['inside', 'outside'].flatMap((web) =>
    ['1.1', '2'].map((httpVersion) => ({
      name: `gRPC-Web over HTTP/${httpVersion}, translated ${web} of the guard`,
      create: createGrpcWebTransport,
      web,
      httpVersion,
      served: WEB_KINDS,
    })),
  ),
]

async function withClient({ create: createTransport, web, httpVersion = '2' }, test) {
  const site = await startSite(web)
  const sessionManager = httpVersion === '2' ? new Http2SessionManager(site.url) : undefined
  const transport = createTransport({ baseUrl: site.url, httpVersion, sessionManager })
  try {
    await test(createClient(echo, transport), site)
  } finally {
    sessionManager?.abort()
  }
}

const codeOf = (name) => Code[name.toLowerCase().replace(/(^|_)(.)/g, (_, __, letter) => letter.toUpperCase())]

describe(`@connectrpc/connect-node ${versionOf('@connectrpc/connect-node')}`, () => {
  for (const transport of TRANSPORTS) {
    describe(transport.name, () => {
      it('opens each kind of call with a valid token', () =>
        withClient(transport, async (client, site) => {
          for (const kind of transport.served) {
            assert.deepEqual(await call(client, kind, 'good'), { answers: ANSWERS[kind] }, kind)
          }
          assert.deepEqual(await site.counts(), { admitted: transport.served.length })
        }))

      it('reads the status, message and challenge of each refusal', () =>
        withClient(transport, async (client, site) => {
          for (const { token, code, message, challenge } of refusals) {
            for (const kind of KINDS) {
              const { error } = await call(client, kind, token)
              assert.deepEqual([error?.code, error?.rawMessage], [codeOf(code), message], `${kind} with ${token}`)
              assert.equal(error.metadata.get('www-authenticate'), challenge)
            }
          }
          assert.deepEqual(await site.counts(), decisions(KINDS.length))
        }))

      it('is unavailable while the store is down, and served afterwards', () =>
        withClient(transport, async (client, site) => {
          await site.store('down')
          for (const kind of KINDS) {
            const { error } = await call(client, kind, 'good')
            assert.deepEqual([error?.code, error?.rawMessage], [Code.Unavailable, 'try again later'], kind)
            assert.equal(error.metadata.get('retry-after'), '1')
            assert.equal(error.metadata.get('www-authenticate'), null)
          }
          assert.deepEqual(await site.counts(), { revocations: KINDS.length })
          await site.store('up')
          let attempt
          do attempt = await call(client, 'unary', 'good')
          while (attempt.error?.code === Code.Unavailable)
          assert.deepEqual(attempt, { answers: ANSWERS.unary })
        }))

      it('gets a status when the token of a stream expires', () =>
        withClient(transport, async (client, site) => {
          const { answers, error } = await call(client, 'serverStreaming', 'short', ['wait'])
          assert.deepEqual(answers, ['billing said wait'])
          assert.deepEqual([error?.code, error?.rawMessage], [Code.Unauthenticated, 'the access token has expired'])
          assert.deepEqual(await site.counts(), { admitted: 1 })
        }))
    })
  }

  for (const httpVersion of ['1.1', '2']) {
    it(`reads the code of each refusal in its own protocol over HTTP/${httpVersion}`, () =>
      withClient({ create: createConnectTransport, httpVersion }, async (client, site) => {
        for (const { token, code, challenge } of refusals) {
          for (const kind of WEB_KINDS) {
            const { error } = await call(client, kind, token)
            assert.equal(error?.code, codeOf(code), `${kind} with ${token}: ${error}`)
            assert.equal(error.metadata.get('www-authenticate'), challenge)
          }
        }
        assert.deepEqual(await site.counts(), decisions(WEB_KINDS.length))
        await site.store('down')
        const { error } = await call(client, 'unary', 'good')
        assert.deepEqual([error.code, error.metadata.get('retry-after')], [Code.Unavailable, '1'])
      }))
  }
})
