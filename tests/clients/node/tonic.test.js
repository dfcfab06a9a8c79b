// @grpc/grpc-js and @connectrpc/connect-node against the running example `tonic`.
import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { create, createFileRegistry } from '@bufbuild/protobuf'
import { FieldDescriptorProto_Label, FieldDescriptorProto_Type, FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt'
import { createClient } from '@connectrpc/connect'
import { Http2SessionManager, createGrpcTransport } from '@connectrpc/connect-node'
import * as grpc from '@grpc/grpc-js'
import { issuer, versionOf } from './service.js'

const TWO = Buffer.from([8, 2]) // example.ListRequest { most: 2 }
const INVOICES = [1, 2].map((number) => `invoice ${number} for billing`)
const UNAUTHENTICATED = 16
const REFUSALS = [
  [undefined, 'an access token is needed'],
  ['a.b.c', 'the access token is not valid here'],
]

async function token() {
  const response = await fetch(new URL('/token', issuer), {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`billing:${process.env.BILLING_SECRET}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials' }),
  })
  return (await response.json()).access_token
}

describe(`@grpc/grpc-js ${versionOf('@grpc/grpc-js')}`, () => {
  const same = (bytes) => bytes
  const List = {
    path: '/example.Invoices/List',
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  }
  const Invoices = grpc.makeGenericClientConstructor({ List }, 'example.Invoices')
  const client = new Invoices(issuer.host, grpc.credentials.createInsecure())
  after(() => client.close())

  const list = (token) =>
    new Promise((resolve, reject) => {
      const metadata = new grpc.Metadata()
      if (token) metadata.set('authorization', `Bearer ${token}`)
      client.List(TWO, metadata, (error, answer) => (error ? reject(error) : resolve(answer)))
    })

  it('is served with a token from the same port', async () => {
    const answer = await list(await token())
    assert.equal(answer.toString(), INVOICES.map((invoice) => `\n\x15${invoice}`).join(''))
  })

  it('is refused without a token and with an invalid one', async () => {
    for (const [token, details] of REFUSALS) await assert.rejects(list(token), { code: UNAUTHENTICATED, details })
  })
})

describe(`@connectrpc/connect-node ${versionOf('@connectrpc/connect-node')}`, () => {
  const invoices = createFileRegistry(
    create(FileDescriptorProtoSchema, {
      name: 'invoices.proto',
      package: 'example',
      syntax: 'proto3',
      messageType: [
        { name: 'ListRequest', field: [{ name: 'most', number: 1, type: FieldDescriptorProto_Type.UINT32 }] },
        {
          name: 'ListResponse',
          field: [
            {
              name: 'invoices',
              number: 1,
              type: FieldDescriptorProto_Type.STRING,
              label: FieldDescriptorProto_Label.REPEATED,
            },
          ],
        },
      ],
      service: [
        { name: 'Invoices', method: [{ name: 'List', inputType: '.example.ListRequest', outputType: '.example.ListResponse' }] },
      ],
    }),
    () => undefined,
  ).getService('example.Invoices')
  const sessionManager = new Http2SessionManager(issuer.origin)
  const client = createClient(invoices, createGrpcTransport({ baseUrl: issuer.origin, sessionManager }))
  after(() => sessionManager.abort())

  const list = (token) => client.list({ most: 2 }, { headers: token ? { authorization: `Bearer ${token}` } : {} })

  it('is served with a token from the same port', async () => {
    assert.deepEqual((await list(await token())).invoices, INVOICES)
  })

  it('is refused without a token and with an invalid one', async () => {
    for (const [token, rawMessage] of REFUSALS) await assert.rejects(list(token), { code: UNAUTHENTICATED, rawMessage })
  })
})
