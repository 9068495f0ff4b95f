// sign.mjs - presigned PUTs of the official SDK per second of processor time of
// its main thread (collecting garbage and compiling beside it are not counted):
// the peer of contrib/bench/sign. sign.mjs SECONDS
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
const require = createRequire(process.cwd() + '/');
const { S3Client, PutObjectCommand } = require('@aws-sdk/client-s3');
const { getSignedUrl } = require('@aws-sdk/s3-request-presigner');

const client = new S3Client({
	region: 'us-east-1',
	endpoint: 'https://127.0.0.1:9',
	forcePathStyle: true,
	credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' },
	requestChecksumCalculation: 'WHEN_REQUIRED', // else it signs a CRC-32 as well
});
let n = 0;

// Seconds that this thread has run.
function now() {
	return Number(readFileSync('/proc/thread-self/schedstat', 'utf8')
	    .split(' ')[0]) / 1e9;
}

async function rate(seconds) {
	const begin = now();
	let done = 0, took = 0;
	while (took < seconds) {
		for (let i = 0; i < 16; i++, done++)
			await getSignedUrl(client, new PutObjectCommand({
				Bucket: 'bench',
				Key: `cam/1/${n++}.jpg`,
				ContentType: 'image/jpeg',
			}), { expiresIn: 900 });
		took = now() - begin;
	}
	return done / took;
}

const seconds = Number(process.argv[2] ?? 3);
await rate(seconds / 2); // until its compiler is done
console.log((await rate(seconds)).toFixed(0));
