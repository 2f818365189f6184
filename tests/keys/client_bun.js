// Requests a page twice, each time on a connection of its own.
// Usage: bun client_bun.js URL [CERT KEY]
const [url, cert, key] = process.argv.slice(2);
const tls = { rejectUnauthorized: false };
if (cert) Object.assign(tls, { cert: Bun.file(cert), key: Bun.file(key) });
for (let left = 2; left > 0; left--) {
  const answer = await fetch(url, { tls, keepalive: false });
  console.log(await answer.text());
}
