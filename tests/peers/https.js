// One HTTPS exchange with node, as server or as client.
//
//   node https.js serve CERTIFICATE KEY    prints its port
//   node https.js get PORT PATH            prints the body
const fs = require("fs");
const https = require("https");
const [mode, first, second] = process.argv.slice(2);

if (mode === "serve") {
  const options = { cert: fs.readFileSync(first), key: fs.readFileSync(second) };
  const server = https.createServer(options, (request, response) => {
    response.end('{"hello":"world"}\n');
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
} else {
  const options = { host: "127.0.0.1", port: first, path: second, rejectUnauthorized: false, agent: false };
  https.get(options, (response) => response.pipe(process.stdout));
}
