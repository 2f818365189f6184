// A gRPC client and server over TLS in one process: unary, both kinds of streams, an error status,
// compressed messages. The messages are protobuf written by hand: 1: string, 2: varint.
// Usage: grpc.js CERTIFICATE KEY   (needs @grpc/grpc-js from npm)
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const [certificate, key] = process.argv.slice(2, 4).map((path) => fs.readFileSync(path));

const varint = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]);
const message = (text, number) => {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x0a, ...varint(bytes.length)]), bytes, Buffer.from([0x10, ...varint(number)])]);
};
const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
  path: `/demo.Words/${name}`, requestStream, responseStream,
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const service = {
  One: method('One', false, false), Many: method('Many', false, true),
  Collect: method('Collect', true, false), Chat: method('Chat', true, true), Fail: method('Fail', false, false),
};
const server = new grpc.Server();
server.addService(service, {
  One: (call, done) => {
    const trailer = new grpc.Metadata();
    trailer.set('x-trailer', 'kept');
    done(null, message('one answer', 150), trailer);
  },
  Many: (call) => {
    for (let number = 1; number <= 3; number++) call.write(message(`answer ${number}`, number));
    call.end();
  },
  Collect: (call, done) => {
    let count = 0;
    call.on('data', () => { count++; });
    call.on('end', () => done(null, message('collected', count)));
  },
  Chat: (call) => {
    call.on('data', (bytes) => call.write(bytes));
    call.on('end', () => call.end());
  },
  Fail: (call, done) => done({ code: grpc.status.NOT_FOUND, details: 'no such word: déjà' }),
});

const unary = (client, name, bytes) => new Promise((resolve) => {
  client[name](bytes, (error, answer) => {
    console.log(name, error ? `${error.code} ${error.details}` : answer.toString('hex'));
    resolve();
  });
});
const streamed = (name, call, requests) => new Promise((resolve) => {
  call.on('data', (bytes) => console.log(name, bytes.toString('hex')));
  call.on('end', resolve);
  for (const request of requests) call.write(request);
  if (requests.length) call.end();
});

async function exchange(port, algorithm) {
  const Client = grpc.makeGenericClientConstructor(service, 'Words');
  const client = new Client(`127.0.0.1:${port}`, grpc.credentials.createSsl(certificate), {
    'grpc.default_compression_algorithm': algorithm,
  });
  await unary(client, 'One', message('a question', 1));
  await streamed('Many', client.Many(message('many', 3)), []);
  await new Promise((resolve) => {
    const call = client.Collect((error, answer) => { console.log('Collect', answer.toString('hex')); resolve(); });
    for (let number = 1; number <= 3; number++) call.write(message(`part ${number}`, number));
    call.end();
  });
  await streamed('Chat', client.Chat(), [message('to and fro', 1), message('again '.repeat(40), 2)]);
  await unary(client, 'Fail', message('missing', 404));
  client.close();
}
const credentials = grpc.ServerCredentials.createSsl(null, [{ private_key: key, cert_chain: certificate }]);
server.bindAsync('127.0.0.1:0', credentials, async (error, port) => {
  if (error) throw error;
  // The client's messages as they are, in deflate, in gzip.
  for (const algorithm of [0, 1, 2]) await exchange(port, algorithm);
  server.forceShutdown();
});
