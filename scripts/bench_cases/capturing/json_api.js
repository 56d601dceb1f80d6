// A JSON API over TLS whose calls take about a millisecond of processor: it parses an order, prices and sorts its lines, and
// writes them. Arguments: ADDRESS CERTIFICATE KEY.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');

const WORK_US = 800; // TLS and HTTP take the rest of the millisecond.
const order = (lines) =>
  JSON.stringify({
    customer: 'c-4711',
    lines: Array.from({ length: lines }, (_, number) => ({ sku: `sku-${(number * 7919) % lines}`, amount: number % 9, price: 9.99 })),
  });
const work = (text) => {
  const read = JSON.parse(text);
  for (const line of read.lines) line.total = Math.round(line.amount * line.price * 119) / 100;
  read.lines.sort((one, other) => (one.sku < other.sku ? -1 : 1));
  const body = JSON.stringify(read);
  return { tag: crypto.createHash('sha256').update(body).digest('hex'), total: read.lines.reduce((sum, line) => sum + line.total, 0) };
};

// So many lines of an order take that long here, once the code is compiled.
const measure = (text) => {
  const begun = process.cpuUsage();
  for (let number = 0; number < 200; number++) work(text);
  const used = process.cpuUsage(begun);
  return (used.user + used.system) / 200;
};
let lines = 200;
for (let tries = 0; tries < 6; tries++) lines = Math.max(10, Math.round((lines * WORK_US) / measure(order(lines))));
const text = order(lines);

const [, , address, certificate, key] = process.argv;
const server = https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, (request, response) => {
  request.resume();
  request.on('end', () => {
    const body = JSON.stringify(work(text));
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    response.end(body);
  });
});
server.keepAliveTimeout = 0; // None.
server.listen(0, address, () => console.log(JSON.stringify({ event: 'ready', port: server.address().port, lines })));
