// grpc-web, the browser client, against the service of tests/grpc_clients.rs, from a page of another origin. No header is
// exposed to the page unless a test enables it.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { StringValueSchema } from '@bufbuild/protobuf/wkt'
import grpcWeb from 'grpc-web'
import { decisions, refusals, startSite, tokens } from './grpc.js'
import { versionOf } from './service.js'
import { XMLHttpRequest } from './xhr.js'

globalThis.XMLHttpRequest = XMLHttpRequest

const { MethodDescriptor, MethodType, StatusCode } = grpcWeb
const descriptor = (name, type) =>
  new MethodDescriptor(
    `/test.Echo/${name}`,
    type,
    String,
    String,
    (value) => toBinary(StringValueSchema, create(StringValueSchema, { value })),
    (bytes) => fromBinary(StringValueSchema, bytes).value,
  )
const METHODS = {
  Unary: descriptor('Unary', MethodType.UNARY),
  ServerStreaming: descriptor('ServerStreaming', MethodType.SERVER_STREAMING),
}
const KINDS = Object.keys(METHODS)
const ANSWERS = { Unary: ['billing said one'], ServerStreaming: Array(3).fill('billing said one') }

function call(format, site, kind, token, message = 'one') {
  const client = new grpcWeb.GrpcWebClientBase({ format })
  const parameters = [
    `${site.url}/test.Echo/${kind}`,
    message,
    token ? { authorization: `Bearer ${tokens[token]}` } : {},
    METHODS[kind],
  ]
  return new Promise((resolve) => {
    const answers = []
    if (kind === 'Unary') {
      client.rpcCall(...parameters, (error, answer) => resolve(error ? { answers, error } : { answers: [answer] }))
    } else {
      const stream = client.serverStreaming(...parameters)
      stream.on('data', (answer) => answers.push(answer))
      stream.on('error', (error) => resolve({ answers, error }))
      stream.on('end', () => resolve({ answers }))
    }
  })
}

describe(`grpc-web ${versionOf('grpc-web')}`, () => {
  for (const format of ['text', 'binary']) {
    // A browser does not stream the binary format: the client reads the response at its end.
    const kinds = format === 'text' ? KINDS : ['Unary']

    describe(format, () => {
      it('opens each kind of call with a valid token', async () => {
        const site = await startSite('cors')
        for (const kind of kinds) assert.deepEqual(await call(format, site, kind, 'good'), { answers: ANSWERS[kind] })
        assert.deepEqual(await site.counts(), { admitted: kinds.length })
      })

      it('reads the status, message and challenge of each refusal', async () => {
        const site = await startSite('cors')
        for (const { token, code, message, challenge } of refusals) {
          for (const kind of kinds) {
            const { error } = await call(format, site, kind, token)
            assert.deepEqual([error?.code, error?.message], [StatusCode[code], message], `${kind} with ${token}`)
            assert.equal(error.metadata['www-authenticate'], challenge)
          }
        }
        assert.deepEqual(await site.counts(), decisions(kinds.length))
      })

      it('is unavailable while the store is down', async () => {
        const site = await startSite('cors')
        await site.store('down')
        for (const kind of kinds) {
          const { error } = await call(format, site, kind, 'good')
          assert.deepEqual([error?.code, error?.message], [StatusCode.UNAVAILABLE, 'try again later'])
          assert.equal(error.metadata['retry-after'], '1')
        }
        assert.deepEqual(await site.counts(), { revocations: kinds.length })
      })
    })
  }

  it('gets a status when the token of a stream expires', async () => {
    const site = await startSite('cors')
    const { answers, error } = await call('text', site, 'ServerStreaming', 'short', 'wait')
    assert.deepEqual(answers, ['billing said wait'])
    assert.deepEqual([error?.code, error?.message], [StatusCode.UNAUTHENTICATED, 'the access token has expired'])
  })

  it('reads the refusals of a guard inside of the translation where their headers are exposed', async () => {
    const site = await startSite('outside-cors')
    for (const { token, code, message, challenge } of refusals) {
      for (const kind of KINDS) {
        const { error } = await call('text', site, kind, token)
        assert.deepEqual([error?.code, error?.message], [StatusCode[code], message], `${kind} with ${token}`)
        assert.equal(error.metadata['www-authenticate'], challenge)
      }
    }
    assert.deepEqual(await site.counts(), decisions(KINDS.length))
  })
})
