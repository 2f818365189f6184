// Requests a page twice, each time on a connection of its own, the second time with the session of the first.
// Usage: node --tls-keylog=FILE client.js PORT TLSv1.2|TLSv1.3 CIPHERS [CERT KEY]
const tls = require('tls');
const fs = require('fs');
const [port, version, ciphers, cert, key] = process.argv.slice(2);
let session;
function request(left) {
  const options = { port, host: '127.0.0.1', rejectUnauthorized: false, maxVersion: version, minVersion: version,
    ciphers, session };
  if (cert) Object.assign(options, { cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
  const socket = tls.connect(options, () => socket.write('GET / HTTP/1.0\r\n\r\n'));
  socket.on('session', (given) => { session = given; });
  socket.on('data', (data) => process.stdout.write(data));
  socket.on('error', (error) => { console.error(error.message); });
  socket.on('close', () => { if (left > 1) request(left - 1); });
}
request(2);
