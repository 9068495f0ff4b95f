// openapi-lint.js FILE - every recommended rule of Redocly on an OpenAPI document
//
// A line for each problem, "severity rule pointer: message"; exit 1 if any.
// NODE_PATH names the folder of @redocly/openapi-core.
const { createConfig, lint } = require('@redocly/openapi-core');

async function main(file) {
	const config = await createConfig({ extends: ['recommended-strict'] });
	const problems = await lint({ ref: file, config });
	for (const p of problems)
		console.log(`${p.severity} ${p.ruleId} ` +
		    `${p.location[0] && p.location[0].pointer}: ${p.message}`);
	return problems.length === 0 ? 0 : 1;
}

main(process.argv[2]).then((rc) => { process.exitCode = rc; }, (e) => {
	console.error(e.message);
	process.exitCode = 2;
});
