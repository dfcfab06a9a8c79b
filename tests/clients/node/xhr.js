// The `XMLHttpRequest` of a page of another origin, as far as grpc-web uses it: without a preflight, and only with the headers
// that the response exposes (Fetch, "CORS-safelisted response-header name").
import http from 'node:http'

const ORIGIN = 'https://page.example.test'
const SAFELISTED = ['cache-control', 'content-language', 'content-length', 'content-type', 'expires', 'last-modified', 'pragma']

export class XMLHttpRequest {
  readyState = 0
  status = 0
  statusText = ''
  responseText = ''
  responseType = ''
  #received = []
  #visible = {}

  open(method, url) {
    this.#request = http.request(url, { method, headers: { origin: ORIGIN }, agent: false })
    this.#moveTo(1)
  }

  setRequestHeader(name, value) {
    this.#request.setHeader(name, value)
  }

  send(body) {
    this.#request.on('response', (response) => {
      if (![ORIGIN, '*'].includes(response.headers['access-control-allow-origin'])) return this.#fail()
      const exposed = (response.headers['access-control-expose-headers'] ?? '').toLowerCase().split(/ *, */)
      const isVisible = ([name]) => SAFELISTED.includes(name) || exposed.includes(name)
      this.#visible = Object.fromEntries(Object.entries(response.headers).filter(isVisible))
      Object.assign(this, { status: response.statusCode, statusText: response.statusMessage })
      this.#moveTo(2)
      response.on('data', (bytes) => {
        this.#received.push(bytes)
        if (this.responseType !== 'arraybuffer') this.responseText += bytes.toString('latin1')
        this.#moveTo(3)
      })
      response.on('end', () => this.#moveTo(4))
      response.on('error', () => this.#fail())
    })
    this.#request.on('error', () => this.#fail())
    this.#request.end(body)
  }

  get response() {
    if (this.responseType !== 'arraybuffer') return this.responseText
    return new Uint8Array(Buffer.concat(this.#received)).buffer
  }

  getResponseHeader(name) {
    return this.#visible[name.toLowerCase()] ?? null
  }

  getAllResponseHeaders() {
    return Object.entries(this.#visible).map(([name, value]) => `${name}: ${value}\r\n`).join('')
  }

  abort() {
    this.#request.destroy()
  }

  #request

  #fail() {
    if (this.readyState === 4) return
    this.status = 0
    this.#moveTo(4)
  }

  #moveTo(state) {
    this.readyState = state
    this.onreadystatechange?.()
  }
}
