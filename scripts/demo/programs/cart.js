// Demo service: shopping carts, over Node's own http. A session cookie says whose cart it is. Prints one JSON line with its port.
'use strict';
const http = require('node:http');

const CART = /^\/cart\/items\/(\d+)$/;

function answer(response, status, document) {
  const body = document === null ? '' : JSON.stringify(document);
  const headers = { 'Content-Length': Buffer.byteLength(body) };
  if (body) headers['Content-Type'] = 'application/json';
  response.writeHead(status, headers);
  response.end(body);
}

const server = http.createServer((request, response) => {
  request.resume(); // The body is of no interest, but the connection is to be used again.
  request.on('end', () => {
    const path = request.url.split('?')[0];
    if (!(request.headers.cookie || '').includes('session=')) return answer(response, 401, { error: 'no session' });
    if (request.method === 'GET' && path === '/cart') return answer(response, 200, { items: [{ product: 1007, count: 2 }], total: 48 });
    if (request.method === 'PUT' && CART.test(path)) return answer(response, 200, { product: Number(CART.exec(path)[1]), count: 1 });
    if (request.method === 'DELETE' && CART.test(path)) return answer(response, 204, null);
    return answer(response, 404, { error: 'no such page' });
  });
});
server.keepAliveTimeout = 60000;
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ event: 'ready', port: server.address().port })));
