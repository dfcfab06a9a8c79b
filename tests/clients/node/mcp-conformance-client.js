// Runs the example `mcp_client` with the credentials of a conformance scenario.
import { spawnSync } from 'node:child_process'

const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}')
const credential = context.private_key_pem
  ? { MCP_PRIVATE_KEY: context.private_key_pem }
  : { MCP_CLIENT_SECRET: context.client_secret ?? 'a-secret-that-must-not-be-sent' }
const env = { ...process.env, MCP_CLIENT_ID: context.client_id ?? 'agent', ...credential }
const { status } = spawnSync(process.env.MCP_CLIENT, [process.argv.at(-1)], { env, stdio: 'inherit' })
process.exit(status ?? 1)
