// @grpc/grpc-js against the service of tests/grpc_clients.rs.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as grpc from '@grpc/grpc-js'
import { challengeOf, decisions, refusals, retries, sleep, startSite, tokens } from './grpc.js'
import { versionOf } from './service.js'

// `google.protobuf.StringValue`: one field, with the number 1 and a length.
const encode = (text) => {
  const bytes = Buffer.from(text)
  const length = []
  let rest = bytes.length
  for (; rest > 127; rest >>= 7) length.push((rest & 127) | 128)
  return Buffer.concat([Buffer.from([0x0a, ...length, rest]), bytes])
}
const decode = (bytes) => {
  assert.equal(bytes[0], 0x0a)
  assert.equal(bytes[1], bytes.length - 2, 'a short message')
  return bytes.subarray(2).toString()
}

const method = (name, requestStream, responseStream) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: encode,
  requestDeserialize: decode,
  responseSerialize: encode,
  responseDeserialize: decode,
})
const Echo = grpc.makeGenericClientConstructor(
  {
    Unary: method('Unary', false, false),
    ServerStreaming: method('ServerStreaming', false, true),
    ClientStreaming: method('ClientStreaming', true, false),
    Streaming: method('Streaming', true, true),
  },
  'test.Echo',
)
const KINDS = ['Unary', 'ServerStreaming', 'ClientStreaming', 'Streaming']
const ANSWERS = {
  Unary: ['billing said one'],
  ServerStreaming: Array(3).fill('billing said one'),
  ClientStreaming: ['billing sent 2'],
  Streaming: ['billing said one', 'billing said two'],
}

function metadataOf(token) {
  const metadata = new grpc.Metadata()
  if (token) metadata.set('authorization', `Bearer ${tokens[token]}`)
  return metadata
}

// Makes one call. Returns its responses, and its status when it ends.
async function call(client, kind, token, { messages = ['one', 'two'], stayOpen = false } = {}) {
  const { requestStream, responseStream } = Echo.service[kind]
  const answers = []
  const status = await new Promise((resolve) => {
    const parameters = [metadataOf(token), { deadline: Date.now() + 20_000 }]
    if (!requestStream) parameters.unshift(messages[0])
    if (!responseStream) parameters.push((error, answer) => error ?? answers.push(answer))
    const running = client[kind](...parameters)
    if (responseStream) {
      running.on('data', (answer) => answers.push(answer))
      running.on('error', () => {}) // the status has the error
    }
    running.on('status', resolve)
    if (requestStream) {
      for (const message of messages) running.write(message)
      if (!stayOpen) running.end()
    }
  })
  return { status, answers }
}

const challenge = ({ metadata }) => metadata.get('www-authenticate')[0]

describe(`@grpc/grpc-js ${versionOf('@grpc/grpc-js')}`, () => {
  const withClient = async (test, options) => {
    const site = await startSite()
    const client = new Echo(new URL(site.url).host, grpc.credentials.createInsecure(), options)
    try {
      await test(client, site)
    } finally {
      client.close()
    }
  }

  async function assertEachRefusal(client, site) {
    for (const { token, code, message, challenge: expected } of refusals) {
      for (const kind of KINDS) {
        const { status } = await call(client, kind, token)
        assert.deepEqual([status.code, status.details], [grpc.status[code], message], `${kind} with ${token}`)
        assert.equal(challenge(status), expected)
      }
    }
    assert.deepEqual(await site.counts(), decisions(KINDS.length))
  }

  it('opens each kind of call with a valid token', () =>
    withClient(async (client, site) => {
      for (const kind of KINDS) {
        const { status, answers } = await call(client, kind, 'good')
        assert.equal(status.code, grpc.status.OK)
        assert.deepEqual(answers, ANSWERS[kind], kind)
      }
      assert.deepEqual(await site.counts(), { admitted: 4 })
    }))

  it('reads the status, message and challenge of each refusal', () => withClient(assertEachRefusal))

  it('is refused early with the same status during a long upload without a token', () =>
    withClient(async (client, site) => {
      const messages = Array(100).fill('x'.repeat(100_000))
      for (const kind of ['ClientStreaming', 'Streaming']) {
        const { status } = await call(client, kind, null, { messages })
        assert.deepEqual([status.code, status.details], [grpc.status.UNAUTHENTICATED, 'an access token is needed'], kind)
      }
      assert.deepEqual((await call(client, 'Unary', 'good')).answers, ANSWERS.Unary)
      assert.deepEqual(await site.counts(), { admitted: 1, no_credentials: 2 })
    }))

  it('gets a status when the token of a stream expires', () =>
    withClient(async (client, site) => {
      const ended = await Promise.all([
        call(client, 'ServerStreaming', 'short', { messages: ['wait'] }),
        call(client, 'Streaming', 'short', { stayOpen: true }),
        call(client, 'ClientStreaming', 'short', { stayOpen: true }),
      ])
      assert.deepEqual(ended.map(({ answers }) => answers.length), [1, 2, 0])
      assert.deepEqual(ended.map(({ status }) => status.code), Array(3).fill(grpc.status.UNAUTHENTICATED))
      const [listening, talking, uploading] = ended.map(({ status }) => status)
      assert.equal(listening.details, 'the access token has expired')
      assert.equal(talking.details, 'the access token has expired')
      // A call without a response yet is refused like a call with an expired token.
      assert.equal(challenge(uploading), challengeOf('expired'))
      assert.deepEqual(await site.counts(), { admitted: 3 })
    }))

  it('retries a call while the store is down, within the limits of its policy', () =>
    withClient(
      async (client, site) => {
        await site.store('down')
        for (const kind of KINDS) {
          const { status } = await call(client, kind, 'good')
          assert.deepEqual([status.code, status.details], [grpc.status.UNAVAILABLE, 'try again later'], kind)
          assert.deepEqual(status.metadata.get('retry-after'), ['1'])
          assert.equal(challenge(status), undefined)
        }
        assert.deepEqual(await site.counts(), { revocations: 16 }, 'four attempts of each kind')
      },
      { 'grpc.service_config': JSON.stringify(retries) },
    ))

  it('succeeds once the store is back between two attempts', () => {
    const patient = structuredClone(retries)
    Object.assign(patient.methodConfig[0].retryPolicy, { initialBackoff: '0.5s', maxBackoff: '2s', maxAttempts: 5 })
    return withClient(
      async (client, site) => {
        await site.store('down')
        const running = Promise.all(['Unary', 'ClientStreaming'].map((kind) => call(client, kind, 'good')))
        while (((await site.counts()).revocations ?? 0) < 2) await sleep(10)
        await site.store('up')
        const [unary, upload] = await running
        assert.deepEqual([unary.answers, upload.answers], [ANSWERS.Unary, ANSWERS.ClientStreaming])
        assert.equal((await site.counts()).admitted, 2)
      },
      { 'grpc.service_config': JSON.stringify(patient) },
    )
  })

  it('retries no other refusal', () =>
    withClient(assertEachRefusal, { 'grpc.service_config': JSON.stringify(retries) }))

  it('calls the unguarded health check', () =>
    withClient(async (_, site) => {
      await site.store('down')
      // An empty request, and a response whose field 1 is SERVING (1).
      const check = { ...method('', false, false), path: '/grpc.health.v1.Health/Check' }
      check.requestSerialize = () => Buffer.alloc(0)
      check.responseDeserialize = (bytes) => [...bytes]
      const Health = grpc.makeGenericClientConstructor({ Check: check }, 'grpc.health.v1.Health')
      const client = new Health(new URL(site.url).host, grpc.credentials.createInsecure())
      for (const token of [null, 'forged']) {
        const answer = await new Promise((resolve, reject) =>
          client.Check(null, metadataOf(token), (error, answer) => (error ? reject(error) : resolve(answer))),
        )
        assert.deepEqual(answer, [8, 1])
      }
      client.close()
      assert.deepEqual(await site.counts(), {})
    }))
})
