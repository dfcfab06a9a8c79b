// A resource server of another ecosystem: it finds our keys by our metadata and verifies our tokens.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import express from 'express'
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer'
import { api, basic, issuer, limited, other, route, versionOf } from './service.js'

async function token({ id, secret }, parameters) {
  const response = await fetch(route('/token'), {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', ...parameters }),
  })
  return (await response.json()).access_token
}

describe(`express-oauth2-jwt-bearer ${versionOf('express-oauth2-jwt-bearer')}`, () => {
  // `strict` is RFC 9068: the type `at+jwt` and every claim of it.
  const checks = [auth({ issuerBaseURL: issuer.origin, audience: api, strict: true }), requiredScopes('write')]
  let server

  before(async () => {
    const app = express()
    app.get('/', checks, (request, response) => response.json(request.auth.payload))
    // Express takes an error handler by its four parameters.
    app.use((error, _request, response, _next) => response.status(error.status ?? 500).json({ code: error.code }))
    server = app.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  after(() => {
    server.close()
    server.closeAllConnections()
  })

  const call = async (token) => {
    const headers = token ? { authorization: `Bearer ${token}` } : {}
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers })
    return { status: response.status, body: await response.json() }
  }

  it('accepts our token', async () => {
    const { status, body } = await call(await token(basic))
    assert.deepEqual([status, body.client_id, body.sub, body.iss, body.aud], [200, basic.id, basic.id, issuer.origin, api])
  })

  it('refuses one for another API, one without the scope, and one that was altered', async () => {
    assert.deepEqual(await call(await token(basic, { resource: other })), { status: 401, body: { code: 'invalid_token' } })
    assert.deepEqual(await call(await token(limited)), { status: 403, body: { code: 'insufficient_scope' } })
    const altered = (await token(basic)).replace(/\..*\./, (claims) => `${claims.slice(0, -2)}A.`)
    assert.deepEqual(await call(altered), { status: 401, body: { code: 'invalid_token' } })
  })
})
