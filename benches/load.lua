-- The requests of wrk. KIND is `token` or `open`, AUTHORIZATION the header, MORE further form parameters.
wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
if os.getenv("KIND") == "token" then
  wrk.method = "POST"
  wrk.path = "/token"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  wrk.body = "grant_type=client_credentials&scope=invoices%3Aread" .. (os.getenv("MORE") or "")
else
  wrk.path = "/invoices"
end
