// The running example `mcp`.
export const resource = new URL(process.env.RESOURCE)
export const secret = process.env.MCP_SECRET
