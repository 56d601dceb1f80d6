# An order for any path, by Puma over TLS, which calls OpenSSL from its own extension.
#
# Arguments: ADDRESS CERTIFICATE KEY.

require "json"
require "puma"
require "puma/minissl"

address, certificate, key = ARGV
context = Puma::MiniSSL::Context.new
context.cert, context.key = certificate, key
context.verify_mode = Puma::MiniSSL::VERIFY_NONE
application = ->(_environment) { [200, { "content-type" => "application/json" }, ['{"state": "sent"}']] }
server = Puma::Server.new(application, nil, { min_threads: 0, max_threads: 8, max_fast_inline: 1 << 30 })
listener = server.add_ssl_listener(address, 0, context)
server.run
puts JSON.generate({ event: "ready", port: listener.addr[1] })
$stdout.flush
sleep
