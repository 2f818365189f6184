// Validates HAR documents with har-validator, against the schemas of har-schema: har-validate.js FILE...
const { readFileSync } = require('fs');
const { har } = require('har-validator');

(async () => {
  for (const file of process.argv.slice(2)) {
    try {
      await har(JSON.parse(readFileSync(file)));
    } catch (error) {
      console.log(`${file}: ${JSON.stringify(error.errors ?? error.message)}`);
      process.exitCode = 1;
    }
  }
})();
