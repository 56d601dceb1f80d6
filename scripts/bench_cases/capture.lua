-- Requests for wrk of which no two are equal. Arguments: number of credentials, pause between a connection's calls (ms; 0 = none).
local credentials, pause, sent = 500, 0, 0

function init(args)
  credentials = tonumber(args[1]) or credentials
  pause = tonumber(args[2]) or pause
  math.randomseed(os.time())
end

function request()
  sent = sent + 1
  local path = "/orders/" .. math.random(1, 1000000000)
  return "GET " .. path .. " HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer credential-" .. math.random(1, credentials)
    .. "\r\nX-Request-Id: " .. sent .. "-" .. math.random(1, 1000000000) .. "\r\n\r\n"
end

-- wrk takes whole milliseconds: the fraction is drawn, so that the mean is right.
function delay()
  local whole = math.floor(pause)
  return whole + (math.random() < pause - whole and 1 or 0)
end
