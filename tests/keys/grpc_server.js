// A gRPC server that answers every call with an empty message.
// Usage: node --tls-keylog=FILE grpc_server.js PORT TLSv1.2|TLSv1.3 CIPHERS CERT KEY [mutual]
const fs = require('fs');
const http2 = require('http2');
const [port, version, ciphers, cert, key, mutual] = process.argv.slice(2);
const options = { cert: fs.readFileSync(cert), key: fs.readFileSync(key), ca: fs.readFileSync(cert), ciphers,
  minVersion: version, maxVersion: version, requestCert: Boolean(mutual), rejectUnauthorized: Boolean(mutual) };
const server = http2.createSecureServer(options);
server.on('stream', (stream) => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(Buffer.alloc(5));
  stream.resume();
});
server.listen(Number(port), '127.0.0.1');
