#!/usr/bin/perl
# edgehaul firmware against a real S3 server: rules, two publishers at once, a
# publish that is killed, bytes that others put there.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;
use Edgehaul::Workstation;

Edgehaul->need_all('radosgw');
my $rgw = Edgehaul->radosgw->bucket('fwbucket');
my $s = Edgehaul->signer(conf => 'allow_http = no');
my $token = $s->token('publisher');
my $gw = $s->token('gateway', '--gateway', 'gw-1');
$s->start;
$s->storage('default', $rgw->storage('fwbucket'));
my $p = Edgehaul::Workstation->new(url => $s->url, token => $token);
my $bytes = Edgehaul::Publisher::bytes('one', 41_943_163);
my $one = $p->file('fw-1.bin', $bytes);

sub run_ok {
	my ($want, $what, @args) = @_;
	my ($rc, $out, $err) = $p->run(@args);
	is($rc, $want, "$what: $want") or diag($out . $err);
	return $out . $err;
}

# ---- keys and configuration -----------------------------------------------

like(run_ok(78, 'publish without a key', 'publish', '--product', 'cam-x', $one),
    qr/key_file/, 'it names key_file');
my $public = $p->keygen;
like($public, qr/^RW/, 'keygen makes a public key');
like(run_ok(74, 'a key is never overwritten', 'keygen', '--no-password', $p->{key}),
    qr/already.*--force/, 'it says so');
{
	my $key = "$p->{dir}/other.key";
	spit("$key.pub", "of somebody else\n");
	like(run_ok(74, 'nor a public key', 'keygen', '--no-password', $key), qr/\.pub is there already/,
	    'it says which');
	ok(!-e $key, 'and leaves no secret key alone');
	is(slurp("$key.pub"), "of somebody else\n", 'what is there stays');
	run_ok(0, 'with --force', 'keygen', '--force', '--no-password', $key);
	my ($secret, $pub) = (slurp($key), slurp("$key.pub"));
	like($pub, qr/^RW/m, 'both are new');
	is((stat $key)[2] & 0777, 0600, 'the secret is private');
	run_ok(0, 'again', 'keygen', '--force', '--no-password', $key);
	ok(slurp($key) ne $secret && slurp("$key.pub") ne $pub, 'both are replaced');
	is(join(' ', glob "$key*"), "$key $key.pub", 'and nothing else is left');
	unlink $key, "$key.pub";
}
require POSIX;
POSIX::mkfifo("$p->{dir}/fifo", 0600);
like((Edgehaul->run('timeout', '10', $p->{program}, '--config', $p->conf, 'firmware', 'publish',
	'--product', 'cam-x', '--version', '1.0.0', "$p->{dir}/fifo"))[2], qr/fifo is no file/,
    'a FIFO is not waited for');
like(run_ok(64, 'no product', 'publish', $one), qr/--product/, 'it asks for the product');
like(run_ok(69, 'an unknown product', 'publish', '--product', 'cam-x', '--version',
	'1.0.0', $one), qr/no such product.*edgehaul firmware product/is, 'it tells how to make it');
run_ok(0, 'a product', 'product', '--product', 'cam-x', '--hw', '1.0', '--hw', '1.1',
    '--max-size', '100 MB');

# ---- rules ----------------------------------------------------------------

my @cam = ('--product', 'cam-x');
sub publish { my ($want, $v, $file, @more) = @_;
	return run_ok($want, "publish $v", 'publish', @cam, '--version', $v, @more, $file) }
like(publish(65, '1.0.0', $one, '--hw', '9'), qr/no hardware 9/, 'an unknown hardware');
like(publish(65, '1.0.0', $one, '--min-from', '0.5'), qr/no release 0\.5/, 'an unknown min_from');
like(publish(65, '1.0.0', $one, '--window', 'noon'), qr/window/, 'a window that is none');
publish(64, '1.0.0', $one, '--percent', '101');
like(run_ok(0, 'a dry run', 'publish', @cam, '--version', '1.0.0', '--dry-run', $one),
    qr/may be published/, 'may be');
is(scalar $rgw->keys('fwbucket'), 0, 'a dry run uploads nothing');

# ---- killed in the middle, resumed ----------------------------------------

my $pid = $p->start('publish', @cam, '--version', '1.0.0', '--hw', '1.0', $one);
my ($state, $through);
for (1 .. 10_000) { # closely: the parts are quick
	Time::HiRes::sleep(0.002);
	($state) = glob "$p->{dir}/state/cam-x-stable-*.json" or next;
	$through = eval { slurp($state) } // '';
	last if $through =~ /"part\.1"/;
}
like($through, qr/"part\.1"/, 'a part is through');
kill 'KILL', $pid;
waitpid $pid, 0;
is($rgw->object('fwbucket', 'firmware/cam-x/stable/1.0.0/fw-1.bin'), undef, 'killed before the end');
my $before = json_decode(slurp($state));
my $n = @{ $before->{done} };
cmp_ok($n, '<', 5, 'not all parts');
publish(0, '1.0.0', $one, '--hw', '1.0');
is(sha256_hex($rgw->object('fwbucket', 'firmware/cam-x/stable/1.0.0/fw-1.bin')->{body}),
    sha256_hex($bytes), 'the object is the file');
ok(!-e $state, 'the state is gone');
my ($cc) = $rgw->object('fwbucket', 'firmware/cam-x/stable/1.0.0/fw-1.bin')->{headers}{'cache-control'};
like($cc // '', qr/immutable/, 'caches may keep it');
like(publish(0, '1.0.0', $one, '--hw', '1.0'), qr/already published.*nothing changed/, 'again: no fault');
is($s->rest('GET', '/v1/firmware/cam-x/stable/manifest', token => $token)->{json}{seq}, 1,
    'nor another manifest');
my @keys = sort map { s{^firmware/cam-x/stable/}{}r } $rgw->keys('fwbucket');
is_deeply([grep { !/manifest-[2-9]/ } @keys], ['1.0.0/fw-1.bin', '1.0.0/fw-1.bin.slices',
	'manifest-1.json', 'manifest-1.json.minisig', 'manifest.json', 'manifest.json.minisig'],
    'the bucket has the names of the document');
my $m = json_decode($rgw->object('fwbucket', 'firmware/cam-x/stable/manifest.json')->{body});
is($m->{releases}[0]{files}[0]{sha256}, sha256_hex($bytes), 'its hash is in the manifest');
is(scalar @{ $m->{releases} }, 1, 'once');

# ---- a state of long ago --------------------------------------------------

my $two = $p->file('fw-2.bin', Edgehaul::Publisher::bytes('two', 17_000_000));
my $hash = substr sha256_hex(slurp($two)), 0, 32;
spit("$p->{dir}/state/cam-x-stable-$hash.json", json_encode({ done => [1],
	kept => { uploadId => '2~gone', 'part.1' => '"x"' } }));
publish(0, '1.1.0', $two);
is(sha256_hex($rgw->object('fwbucket', 'firmware/cam-x/stable/1.1.0/fw-2.bin')->{body}),
    sha256_hex(slurp($two)), 'begun anew where the store forgot');

# ---- versions -------------------------------------------------------------

like(publish(65, '1.0.0', $two), qr/other bytes/, 'never other bytes');
like(publish(65, '1.0.9', $two), qr/not lower/, 'never lower');
my $three = $p->file('fw-3.bin', 'x' x 1000);
$rgw->request('PUT', '/fwbucket/firmware/cam-x/stable/1.2.0/fw-3.bin', [], 'y' x 1000);
like(publish(65, '1.2.0', $three), qr/other bytes/, 'what others put there is no release');
is($rgw->object('fwbucket', 'firmware/cam-x/stable/1.2.0/fw-3.bin')->{body}, 'y' x 1000, 'nor overwritten');
$rgw->request('PUT', '/fwbucket/firmware/cam-x/stable/1.3.0/fw-3.bin', [], 'y');
like(publish(65, '1.3.0', $three), qr/other bytes/, 'nor of another size');

# ---- what images say ------------------------------------------------------

SKIP: {
	need(5, 'cpio');
	my $d = $p->{dir};
	spit("$d/sw-description", "software = { version = \"2.0.0\";\n"
	    . " hardware-compatibility: [ \"1.0\", \"1.1\" ]; };\n");
	spit("$d/rootfs.bin", 'r' x 5000);
	system("cd $d && printf 'sw-description\\nrootfs.bin\\n' | cpio --quiet -o -H crc -L > a.swu");
	like(run_ok(65, 'another version than the image', 'publish', @cam, '--version', '2.1.0',
		"$d/a.swu"), qr/says that it is version 2\.0\.0/, 'told');
	like(run_ok(65, 'another hardware', 'publish', @cam, '--hw', '7.0', "$d/a.swu"),
	    qr/hardware 1\.0/, 'told');
	like(run_ok(0, 'the version of the image', 'publish', @cam, '--hw', '1.1', "$d/a.swu"),
	    qr/cam-x 2\.0\.0 is published/, 'read from it');
}
SKIP: {
	need(2, 'openssl');
	my $d = $p->{dir};
	spit("$d/manifest.raucm", "[update]\ncompatible=cam\nversion=2.5.0\n\n[bundle]\nformat=verity\n");
	Edgehaul->run('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$d/k.pem",
		'-out', "$d/c.pem", '-subj', '/CN=fw');
	Edgehaul->run('openssl', 'cms', '-sign', '-in', "$d/manifest.raucm", '-signer', "$d/c.pem",
		'-inkey', "$d/k.pem", '-outform', 'DER', '-nodetach', '-binary', '-out', "$d/cms");
	my $cms = slurp("$d/cms");
	my $bundle = $p->file('fw.raucb', 'hsqs' . ("\0" x 4092) . $cms . pack 'Q>', length $cms);
	like(run_ok(0, 'a RAUC bundle', 'publish', @cam, $bundle), qr/cam-x 2\.5\.0/, 'its version');
}
my $esp = "\xe9\x05\x02\x2f" . ("\0" x 28) . pack('V', 0xabcd5432) . ("\0" x 12)
    . pack('a32a32', '3.0.0', 'cam') . ("\xff" x 5000);
like(run_ok(0, 'an ESP image', 'publish', @cam, '--json', $p->file('esp.bin', $esp)),
    qr/"version":"3\.0\.0"/, 'its version');

# ---- editing --------------------------------------------------------------

run_ok(0, 'halt', 'halt', @cam, '--version', '3.0.0');
like(run_ok(0, 'ls', 'ls', @cam), qr/3\.0\.0\s+halted/, 'halted');
run_ok(0, 'promote', 'promote', @cam, '--version', '3.0.0', '--percent', '25');
like(run_ok(0, 'ls', 'ls', @cam), qr/3\.0\.0\s+25 %/, 'promoted');
my $u = $s->rest('GET', '/v1/updates', token => $gw)->{json};
run_ok(0, 'revoke', 'revoke', @cam, '--version', '1.1.0');
like(run_ok(0, 'ls', 'ls', @cam), qr/1\.1\.0\s+revoked/, 'revoked');
my $u2 = $s->rest('GET', '/v1/updates', token => $gw)->{json};
like(run_ok(65, 'what is revoked', 'promote', @cam, '--version', '1.1.0'),
    qr/revoked.*for good/, 'is not promoted any more');
is($u2->{firmware}[0]{seq}, $u->{firmware}[0]{seq} + 1, 'gateways are told');
run_ok(0, 'refresh', 'refresh', @cam, '--expires', '10 d');
run_ok(69, 'an unknown release', 'halt', @cam, '--version', '7.7.7');
like(run_ok(0, 'products', 'ls'), qr/cam-x\s+default\s+1\.0 1\.1/, 'ls has the product');
my @lines = split /\n/, run_ok(0, 'ls --json', 'ls', @cam, '--json');
is(json_decode($lines[0])->{version}, '1.0.0', 'a line of JSON each');

# ---- two publishers at once -----------------------------------------------

my $q = Edgehaul::Workstation->new(url => $s->url, token => $token, key => $p->{key});
my @pids = map { my $v = $_; $p->start('publish', @cam, '--version', "4.$v.0", '--channel', 'beta',
	$p->file("b$v.bin", "beta $v" x 1000)) } 0 .. 2;
push @pids, $q->start('publish', @cam, '--version', '5.0.0', '--channel', 'beta',
	$q->file('q.bin', 'q' x 9000));
my @ends = map { waitpid $_, 0; $? >> 8 } @pids;
is($ends[3], 0, 'the highest is published');
ok(!(grep { $_ != 0 && $_ != 65 } @ends), 'the others are, too, or came too late')
    or diag("@ends", map { slurp($_) } glob "$p->{dir}/err.*");
my $beta = $rgw->object('fwbucket', 'firmware/cam-x/beta/manifest.json')->{body};
my $newest = $s->rest('GET', '/v1/firmware/cam-x/beta/manifest', token => $token)->{json};
is($beta, $newest->{manifest}, 'the bucket has the newest manifest');
is(scalar @{ json_decode($beta)->{releases} }, scalar(grep { $_ == 0 } @ends), 'with all that were published');
is($newest->{announced}, $newest->{seq}, 'announced');

# ---- keys of others -------------------------------------------------------

my $other = Edgehaul::Workstation->new(url => $s->url, token => $token);
my $public2 = $other->keygen;
my ($rc, $out, $err) = $other->run('publish', @cam, '--version', '6.0.0', $other->file('o.bin', 'o' x 100));
is($rc, 65, 'a key that the newest was not signed by');
like($err, qr/was not signed by this key/, 'told');
($rc, $out, $err) = $other->run('publish', @cam, '--version', '6.0.0', '--yes', "$other->{dir}/o.bin");
is($rc, 65, 'nor is a key that the product does not have taken');
like($err, qr/key that the product does not have/, 'told');
spit($other->conf, slurp($other->conf) . "other_keys = $public\n");
is(($other->run('product', @cam))[0], 0, 'its key is added to the product');
($rc, $out, $err) = $other->run('publish', @cam, '--version', '6.0.0', "$other->{dir}/o.bin");
is($rc, 0, 'fellow publishers trust each other') or diag($err);

SKIP: {
	need(4, 'minisign');
	my $fw = Edgehaul::Publisher->new($s, token => $token);
	my $stock = Edgehaul::Workstation->new(url => $s->url, token => $token, key => $fw->key,
	    conf => ["other_keys = $public $public2"]);
	is(($stock->run('product', @cam))[0], 0, 'a key of stock minisign');
	is(($stock->run('refresh', @cam))[0], 0, 'signs');
	my $text = $rgw->object('fwbucket', 'firmware/cam-x/stable/manifest.json')->{body};
	spit("$fw->{dir}/m", $text);
	spit("$fw->{dir}/m.minisig", $rgw->object('fwbucket', 'firmware/cam-x/stable/manifest.json.minisig')->{body});
	my ($vrc, $vout) = Edgehaul->run('minisign', '-V', '-P', $fw->public, '-m', "$fw->{dir}/m");
	is($vrc, 0, 'and stock minisign verifies it');
	like($vout, qr/edgehaul product:cam-x channel:stable seq:\d+/, 'with its comment');
}

# ---- a password -----------------------------------------------------------

# The publisher's key under a password, by hand and with little stretching.
SKIP: {
	need(5, 'openssl');
	require MIME::Base64;
	my (undef, $line) = split /\n/, slurp($p->{key});
	my $raw = MIME::Base64::decode_base64($line);
	my $hex = join '', (Edgehaul->run('openssl', 'kdf', '-keylen', '104', '-kdfopt',
		'pass:secret', '-kdfopt', 'hexsalt:' . '5a' x 32, '-kdfopt', 'n:1024',
		'-kdfopt', 'r:8', '-kdfopt', 'p:1', 'SCRYPT'))[1] =~ /[0-9A-F]{2}/g;
	spit("$p->{dir}/sum", 'Ed' . substr $raw, 54, 72);
	my ($sum) = (Edgehaul->run('b2sum', '-l', '256', "$p->{dir}/sum"))[1] =~ /^(\w+)/;
	my $locked = Edgehaul::Workstation->new(url => $s->url, token => $token,
	    conf => ["other_keys = $public2"]);
	spit($locked->{key}, "untrusted comment: locked\n" . MIME::Base64::encode_base64(
		'EdScB2' . ('Z' x 32) . pack('Q<Q<', 32768, 1 << 24)
		. ((substr($raw, 54, 72) . pack('H*', $sum)) ^ pack 'H*', $hex), '') . "\n");
	chmod 0600, $locked->{key};
	local $ENV{EDGEHAUL_KEY_PASSWORD} = 'secret';
	is(($locked->run('product', @cam))[0], 0, 'opened by its password') or last;
	$ENV{EDGEHAUL_KEY_PASSWORD} = 'wrong';
	($rc, $out, $err) = $locked->run('product', @cam);
	is($rc, 78, 'not by another');
	like($err, qr/password/, 'told');
	delete $ENV{EDGEHAUL_KEY_PASSWORD};
	is((Edgehaul->run('setsid', '-w', $p->{program}, '--config', $locked->conf, 'firmware',
		'refresh', @cam))[0], 78, 'nor without a terminal to ask on');
	spit("$locked->{dir}/password", "secret\n");
	spit($locked->conf, slurp($locked->conf) . "password_file = $locked->{dir}/password\n");
	is(($locked->run('product', @cam))[0], 0, 'opened by password_file');
}

# ---- what goes wrong ------------------------------------------------------

spit("$p->{dir}/token", "eh.acme.x.y\n");
like(run_ok(77, 'a token that is not known', 'ls'), qr/token/, 'told');
spit($p->conf, slurp($p->conf) =~ s/^url = .*/url = http:\/\/127.0.0.1:1/mr);
like(run_ok(69, 'no signer there', 'ls'), qr/cannot be reached/, 'told');
spit($p->conf, "[publisher]\nurll = x\n");
like(run_ok(78, 'a misspelt setting', 'ls'), qr/did you mean url|url/i, 'told');
unlike($s->log . join('', map { slurp($_) } glob "$p->{dir}/err.*"), qr/X-Amz-Signature/,
    'no signed URI is shown');
finish;
