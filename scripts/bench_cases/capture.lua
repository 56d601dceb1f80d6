-- Requests for wrk of which no two are equal.
-- Arguments: kind of credential, number of credentials, number of routes, pause between a connection's calls (ms; 0 = none),
-- words of paths with commas.
--   bearer   one of the credentials          signed   one key of many, with a signature of its own in each request (AWS SigV4)
--   session  one of many session cookies, beside a cookie that changes        once   a credential that is never used again
--   cycle    as bearer, one after the other, so that as many are new as there are calls
local kind, credentials, routes, pause, sent = "bearer", 500, 1, 0, 0
local random = math.random
local words = {}

function init(args)
  kind = args[1] or kind
  credentials = tonumber(args[2]) or credentials
  routes = tonumber(args[3]) or routes
  pause = tonumber(args[4]) or pause
  for word in (args[5] or "orders"):gmatch("[^,]+") do words[#words + 1] = word end
  math.randomseed(os.time())
end

local function hexadecimal(words)
  local parts = {}
  for i = 1, words do parts[i] = string.format("%08x", random(0, 4294967295)) end
  return table.concat(parts)
end

local function credential()
  if kind == "signed" then
    return "Authorization: AWS4-HMAC-SHA256 Credential=AKIA" .. string.format("%08d", random(1, credentials))
      .. "/20261124/eu-west-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, Signature=" .. hexadecimal(8)
      .. "\r\nX-Amz-Date: 20261124T" .. string.format("%06d", random(0, 235959)) .. "Z\r\n"
  elseif kind == "session" then
    return "Cookie: session=5f8e7d6c" .. string.format("%08d", random(1, credentials)) .. "a1; _ga=GA1.2." .. random(1, 1000000000)
      .. "." .. sent .. "\r\n"
  elseif kind == "once" then
    return "Authorization: Bearer " .. hexadecimal(4) .. "\r\n"
  end
  local number = kind == "cycle" and sent % credentials or random(1, credentials)
  return "Authorization: Bearer credential-" .. number .. "\r\n"
end

function request()
  sent = sent + 1
  local route = random(0, routes - 1)
  local path = "/" .. words[route % #words + 1] .. "/" .. words[math.floor(route / #words) % #words + 1] .. "/" .. random(1, 1000000000)
  return "GET " .. path .. " HTTP/1.1\r\nHost: shop.example\r\n" .. credential()
    .. "X-Request-Id: " .. sent .. "-" .. random(1, 1000000000) .. "\r\n\r\n"
end

-- wrk takes whole milliseconds: the fraction is drawn, so that the mean is right.
function delay()
  local whole = math.floor(pause)
  return whole + (random() < pause - whole and 1 or 0)
end
