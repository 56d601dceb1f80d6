-- The test application over Apache's mod_lua; see tests/e2e/application.py for what it answers.
require "apache2"

local function answer(r, status, body)
  r.status = status
  if body then
    r.content_type = "application/json"
    r:write(body)
  end
  return apache2.OK
end

function handle(r)
  r:requestbody()
  if r.uri == "/orders" and r.method == "POST" then return answer(r, 201, '{"number": 1}') end
  if r.uri:find("^/orders/") and r.method == "DELETE" then return answer(r, 204) end
  if r.uri:find("^/orders/") then return answer(r, 200, '{"state": "sent"}') end
  if r.uri:find("^/users/") then return answer(r, 304) end
  return answer(r, 404, "{}")
end
