#!/usr/bin/perl
# The signer keeps to its document: a validating proxy between us and it
# refuses requests and answers that doc/signer-api.yaml does not have.
use strict;
use warnings;
use Test::More;
use Edgehaul;
use Edgehaul::Publisher;

Edgehaul->need_all('prism');
my $document = Edgehaul::top_srcdir() . '/doc/signer-api.yaml';
my $yaml = slurp($document);

my $s = Edgehaul->signer(conf => 'rate_limit = 40');
my $root = $s->token('root');
my $admin = $s->admin;
my $pub = $s->token('publisher');
my $gw = $s->token('gateway', '--gateway', 'gw-1');
my $gw9 = $s->token('gateway', '--gateway', 'gw-9');
$s->start;
my $prism = Edgehaul->prism($document, $s->url);

# ---- is the document itself in order? -----------------------------------------

sub lint {
	my ($file) = @_;
	local $ENV{NODE_PATH} = Edgehaul::node_modules();
	my ($rc, $out, $err) = Edgehaul->run(Edgehaul::have('node') . '/node',
	    Edgehaul::top_srcdir() . '/t/lib/backends/openapi-lint.js', $file);
	return "$rc $out$err";
}
SKIP: {
	need(2, 'redocly');
	is(lint($document), '0 ', 'the linter finds nothing');
	(my $changed = $yaml) =~ s/^ +summary: Is it alive\?\n//m
	    or fail('the document has another form now');
	like(lint(spit(Edgehaul->dir . '/bad.yaml', $changed)),
	    qr{^1 error operation-summary .*~1health/get}, 'but a mistake');
}

# ---- does the signer keep to it? ------------------------------------------------

# The operations of the document, and which were called.
my (%called, @operations, $at);
for (split /\n/, $yaml) {
	last if /^components:/;
	if (m{^  (/\S*):}) {
		$at = $1;
	} elsif (/^    (get|put|post|delete|head):/) {
		my $method = uc $1;
		(my $pattern = quotemeta $at) =~ s{\\\{\w+\\\}}{[^/]+}g;
		push @operations, { name => "$method $at", method => $method,
			pattern => qr/^$pattern$/ };
	}
}

sub call {
	my ($status, $method, $path, %o) = @_;
	my $r = Edgehaul::http($method, $prism->url . $path,
	    token => $admin, %o);
	my $ok = is($r->{status}, $status, "$method $path: $status");
	# What the proxy says itself is about the document, not by the signer.
	unlike($r->{content}, qr/stoplight\.io/, "$method $path: as documented")
	    and $ok or diag($r->{content});
	$path =~ s/\?.*//;
	$called{ $_->{name} } = 1 for grep { $_->{method} eq $method
		&& $path =~ $_->{pattern} } @operations;
	return $r->{json};
}

my $key = 'ZWRnZS11cGxvYWQtc2lnbmVyLWZha2UtYWNjb3VudC1rZXktMSE=';
call(201, 'POST', '/v1/storages', json => { type => 'FILE' });
call(201, 'PUT', '/v1/storages/s3', json => { type => 'S3', bucket => 'bkt',
	accessKeyId => 'a', secretAccessKey => 'b', partSize => 5 << 20 });
call(201, 'PUT', '/v1/storages/azure', json => { type => 'AZURE',
	connectionString => "AccountName=acc;AccountKey=$key" });
my $shown = call(200, 'GET', '/v1/storages/s3');
call(200, 'PUT', '/v1/storages/s3', json => $shown);
call(412, 'PUT', '/v1/storages/s3', json => $shown,
    headers => { 'if-match' => '"0"' });
call(200, 'GET', '/v1/storages');
call(404, 'GET', '/v1/storages/none');
call(200, 'POST', '/v1/storages/default/test');
call(200, 'GET', '/v1/storages/default');
call(422, 'PUT', '/v1/storages/bad', json => { type => 'S3' });
my $kept = { uploadId => 'u', map { ("part.$_" => 'e') } 1 .. 3 };
my %up = (id => 'a', key => 'k', size => 12 << 20, sha256 => 'a' x 64);
my $signed = call(200, 'POST', '/v1/sign', token => $gw, json => { uploads => [
	{ %up, size => 5, contentType => 'image/jpeg', device => 'cam' },
	{ %up, size => 5, storage => 's3', metadata => { a => 'b' } },
	{ %up, size => 5, storage => 'azure' }, { %up, method => 'HEAD' },
	{ %up, storage => 's3' },
	{ %up, storage => 's3', step => 'part', part => 3, kept => $kept },
	{ %up, storage => 's3', step => 'finish', kept => $kept },
	{ %up, storage => 's3', step => 'abort', kept => $kept },
	{ %up, storage => 'none' }, { %up, key => '../x' },
	{ %up, method => 'GET' } ] });
is(scalar(grep { $_->{recipe} } @{ $signed->{results} }), 8, 'eight recipes');
call(403, 'POST', '/v1/sign', json => { uploads => [\%up] });
call(401, 'GET', '/v1/storages', token => 'eh.no');
call(200, 'POST', '/v1/reports', token => $gw, json => { reports => [{ id => 'r',
	name => 'a.jpg', attempts => 1, secondsAgo => 2,
	outcome => 'delivered', size => 1 }], status => { waiting => 0 } });
call(200, 'GET', '/v1/updates', token => $gw);
call(201, 'PUT', '/v1/gateways/gw-2', json => { prefix => 'x', policy => {
	maxSize => 5 }, note => 'n' });
call(200, 'GET', '/v1/gateways/gw-1');
call(200, 'GET', '/v1/gateways?limit=1');
call(201, 'PUT', '/v1/gateways/gw-1/devices/cam', json => {
	blocked => JSON::PP::true() });
call(200, 'GET', '/v1/gateways/gw-1/devices');
call(200, 'GET', '/v1/gateways/gw-1/devices/cam');
call(204, 'DELETE', '/v1/gateways/gw-1/devices/cam');
call(204, 'DELETE', '/v1/gateways/gw-2');
my $token = call(201, 'POST', '/v1/tokens', json => { role => 'admin',
	expiresIn => 'P1D' });
call(200, 'GET', '/v1/tokens');
call(204, 'DELETE', "/v1/tokens/$token->{id}");
call(201, 'PUT', '/v1/tenants/new', token => $root);
call(200, 'GET', '/v1/tenants', token => $root);
call(200, 'GET', '/v1/tenants/new', token => $root);
call(204, 'DELETE', '/v1/tenants/new', token => $root);
call(200, 'GET', '/v1/audit?limit=5');
call(204, 'DELETE', '/v1/storages/s3');
call(200, 'GET', '/health');

# The rest of the operations, and of what may be answered.
call(200, 'PUT', '/v1/tenants/acme', token => $root);
call(200, 'GET', '/v1/tenants/acme', token => $root);
call(403, 'GET', '/v1/tenants');
SKIP: {
	need(4, 'openssl');
	my $pem = Edgehaul->dir('ca') . '/pem';
	Edgehaul->run('openssl', 'req', '-x509', '-newkey', 'rsa:2048',
		'-nodes', '-keyout', "$pem.key", '-out', $pem, '-subj', '/CN=x');
	my $own = call(201, 'PUT', '/v1/storages/own', json => { type => 'S3',
		bucket => 'bkt', accessKeyId => 'a', secretAccessKey => 'b',
		endpoint => 'https://s3.example', certificate => slurp($pem) });
	call(200, 'GET', "/v1/certificates/$own->{certificateId}", token => $gw);
}
call(404, 'GET', '/v1/certificates/none', token => $gw);
call(404, 'POST', '/v1/storages/none/test');
call(422, 'PUT', '/v1/gateways/gw-3', json => { prefix => '../x' });
call(404, 'DELETE', '/v1/gateways/none');
call(404, 'GET', '/v1/gateways/none/devices/x');
call(422, 'POST', '/v1/tokens', json => { role => 'gateway' });
call(404, 'DELETE', '/v1/tokens/none');
call(200, 'PUT', '/v1/gateways/gw-1', json => { blocked => JSON::PP::true() });
call(403, 'POST', '/v1/sign', token => $gw, json => { uploads => [\%up] });
call(200, 'GET', '/v1/updates', token => $gw);

# ---- firmware ---------------------------------------------------------------

SKIP: {
	need(60, 'minisign');
	my $fw = Edgehaul::Publisher->new($s, token => $pub);
	my @pub = (token => $pub);
	call(200, 'GET', '/v1/firmware', @pub);
	call(201, 'PUT', '/v1/firmware/cam-x', @pub, json => { storage => 'default',
		hw => ['1.0'], publicKeys => [$fw->public], maxSize => 1 << 20, note => 'n' });
	my $product = call(200, 'GET', '/v1/firmware/cam-x', @pub);
	call(200, 'PUT', '/v1/firmware/cam-x', @pub, json => $product);
	call(412, 'PUT', '/v1/firmware/cam-x', @pub, json => $product,
	    headers => { 'if-match' => '"0"' });
	call(422, 'PUT', '/v1/firmware/cam-y', @pub, json => { publicKeys => ['x'] });
	call(404, 'GET', '/v1/firmware/cam-y', @pub);
	call(404, 'GET', '/v1/firmware/cam-x/stable/manifest', @pub);
	my $image = $fw->image('fw', 300_000);
	my $release = '/v1/firmware/cam-x/stable/releases';
	call(200, 'POST', $release, @pub, json => { version => '1.0.0', dryRun =>
		JSON::PP::true(), files => [$image->{file}] });
	my $checked = call(200, 'POST', $release, @pub, json => { version => '1.0.0',
		hw => ['1.0'], files => [$image->{file}] });
	call(409, 'POST', $release, @pub, json => { version => '0.9.0', files => [$image->{file}] });
	call(422, 'POST', $release, @pub, json => { version => '1.1.0', minFrom => '0.1',
		files => [$image->{file}] });
	call(404, 'POST', '/v1/firmware/cam-y/stable/releases', @pub, json => {
		version => '1.0.0', files => [$image->{file}] });
	call(200, 'POST', '/v1/firmware/cam-x/stable/sign', @pub, json => { uploads => [
		map { { version => '1.0.0', name => 'fw.bin', method => $_ } } qw(PUT GET HEAD) ] });
	call(422, 'POST', '/v1/firmware/cam-x/stable/sign', @pub, json => { uploads => [
		{ version => '1.0.0', name => 'other.bin' }] });
	my $m = $fw->manifest('cam-x', 'stable', 1, [$fw->release('1.0.0', 1, $image, hw => ['1.0'])]);
	call(422, 'PUT', '/v1/firmware/cam-x/stable/manifest', @pub, json => $m);
	$fw->put($checked->{uploads}[0]{recipe}, $image->{bytes});
	$fw->put($checked->{uploads}[1]{recipe}, $image->{list});
	$fw->put_all(call(200, 'PUT', '/v1/firmware/cam-x/stable/manifest', @pub, json => $m,
		headers => { 'if-none-match' => '*' }), $m);
	call(409, 'PUT', '/v1/firmware/cam-x/stable/manifest', @pub,
	    json => $fw->manifest('cam-x', 'stable', 3, []));
	call(412, 'PUT', '/v1/firmware/cam-x/stable/manifest', @pub,
	    json => $fw->manifest('cam-x', 'stable', 2, []), headers => { 'if-match' => '"7"' });
	call(200, 'POST', '/v1/firmware/cam-x/stable/manifest/announce', @pub, json => { seq => 1 });
	call(422, 'POST', '/v1/firmware/cam-x/stable/manifest/announce', @pub, json => { seq => 9 });
	call(200, 'GET', '/v1/firmware/cam-x/stable/manifest', @pub);
	call(200, 'GET', '/v1/firmware/cam-x/stable', @pub);
	call(200, 'POST', $release, @pub, json => { version => '1.1.0', files => [$image->{file}] });
	call(204, 'DELETE', "$release/1.1.0", @pub);
	call(409, 'DELETE', "$release/1.0.0", @pub);
	call(409, 'DELETE', '/v1/firmware/cam-x', @pub);
	call(201, 'PUT', '/v1/firmware/lens', @pub, json => { publicKeys => [$fw->public] });
	call(204, 'DELETE', '/v1/firmware/lens', @pub);
	my %told = (json => { devices => [{ id => 'cam', product => 'cam-x', version => '1.0.0',
		source => 'check', seen => 1 }] });
	call(200, 'POST', '/v1/firmware/feedback', token => $gw9, %told);
	call(403, 'POST', '/v1/firmware/feedback', token => $gw, %told); # blocked
	call(403, 'POST', '/v1/firmware/feedback', @pub, json => { devices => [] });
	call(200, 'GET', '/v1/firmware/cam-x/stable/devices?limit=1', @pub);
	is(call(200, 'GET', '/v1/updates', token => $gw9)->{firmware}[0]{seq}, 1, 'gateways are told');
}

# Keys have slashes, which a parameter of a path cannot have: t/40 has them.
my @left = grep { !m{/v1/files/} && !$called{$_} } map { $_->{name} } @operations;
is_deeply(\@left, [], 'every operation of the document was called');

# ---- too many requests ----------------------------------------------------

# Straight to the signer, as long as it takes: the proxy may be so slow that new
# requests are allowed as fast as it asks.
my $flood = fork // die "fork: $!\n";
if ($flood == 0) {
	$s->flood($gw, 200) while getppid != 1;
	require POSIX;
	POSIX::_exit(0);
}
my $limited;
wait_for(sub {
	$limited = Edgehaul::http('GET', $prism->url . '/v1/updates', token => $gw);
	return $limited->{status} != 200;
}, 40);
kill 'KILL', $flood;
waitpid $flood, 0;
is($limited->{status}, 429, 'too many requests: 429');
unlike($limited->{content}, qr/stoplight\.io/, 'as documented');

# ---- does the proxy notice? -----------------------------------------------

my $r = Edgehaul::http('POST', $prism->url . '/v1/sign', token => $gw,
    json => { uploads => [{ id => 'a' }] });
like($r->{content}, qr/stoplight\.io/, 'a request without a key is noticed');
(my $changed = $yaml) =~ s/hosts: \{ type: array, items: \{ type: string \} \}/hosts: { type: integer }/
    or fail('the document has another form now');
my $other = Edgehaul->prism(spit(Edgehaul->dir('other') . '/api.yaml', $changed),
    $s->url);
$r = Edgehaul::http('GET', $other->url . '/v1/storages', token => $admin);
is($r->{status}, 500, 'an answer that is not as documented is noticed');
like($r->{content}, qr/stoplight\.io.*hosts/s, 'with its place');
finish;
