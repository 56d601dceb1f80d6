// The test application over Node's http; see tests/e2e/application.py for what it answers. Arguments: ADDRESS
// [CERTIFICATE KEY]; with these over TLS.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');

const serve = (request, response) => {
  request.resume();
  request.on('end', () => {
    const path = request.url.split('?')[0];
    const answer = (status, body) => {
      response.writeHead(status, body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
      response.end(body);
    };
    if (path === '/orders' && request.method === 'POST') answer(201, '{"number": 1}');
    else if (path.startsWith('/orders/') && request.method === 'DELETE') answer(204);
    else if (path.startsWith('/orders/')) answer(200, '{"state": "sent"}');
    else if (path.startsWith('/users/')) answer(304);
    else if (path === '/events') {
      response.writeHead(200); // No length: Node answers in chunks.
      for (const size of [1, 100, 5000]) response.write('x'.repeat(size));
      response.end();
    } else answer(404, '{}');
  });
};
const [, , address, certificate, key] = process.argv;
const server = certificate
  ? https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, serve)
  : http.createServer(serve);
server.keepAliveTimeout = 0; // None.
server.listen(0, address, () => console.log(JSON.stringify({ event: 'ready', port: server.address().port })));
